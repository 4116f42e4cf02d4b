// Package e2e holds the whole-system tests: the real programs, a real Slurm,
// a real database, and faults. They start what they test as its users would,
// by its commands and its API, and look only at what comes out: the API, the
// marker files that the jobs themselves write, and the batch system's own
// accounting. Programs are built once with the build tag failpoint.
package e2e
