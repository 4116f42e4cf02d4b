/* Integrates 4 / (1 + x^2) from 0 to 1: every rank takes a share of the
 * intervals. Rank 0 prints "pi RANKS VALUE", each rank its own line before. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	int rank, size;
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	long n = argc > 1 ? atol(argv[1]) : 1000000;
	double share = 0, pi = 0;
	for (long i = rank; i < n; i += size) {
		double x = (i + 0.5) / n;
		share += 4 / (1 + x * x) / n;
	}
	char line[128], *lines = NULL;
	snprintf(line, sizeof line, "rank %d of %d adds %.12f", rank, size, share);
	if (rank == 0)
		lines = malloc((size_t)size * sizeof line);
	MPI_Gather(line, sizeof line, MPI_CHAR, lines, sizeof line, MPI_CHAR, 0, MPI_COMM_WORLD);
	MPI_Reduce(&share, &pi, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
	if (rank == 0) {
		for (int i = 0; i < size; i++)
			puts(lines + (size_t)i * sizeof line);
		printf("pi %d %.10f\n", size, pi);
		free(lines);
	}
	MPI_Finalize();
	return 0;
}
