#!/bin/bash
# Lid-driven cavity flow with OpenFOAM's icoFoam: mesh, solve, judge, extract.
#
# In: the environment variable "viscosity" (kinematic, m2/s), read by
# constant/transportProperties. Out: result.json (a row of numbers) and
# centreline.csv (the velocity on the vertical line through the middle).
#
# Ends non-zero when the solver fails, diverges or does not become steady: a
# job that "succeeded" with NaN in its table is worse than one that failed.
set -euo pipefail

: "${viscosity:?is not set: run this as a job, or set it by hand}"

fail() {
    echo "cavity: $*" >&2
    tail -n 15 log.icoFoam >&2 2>/dev/null || true
    exit 1
}

blockMesh >log.blockMesh 2>&1 || { cat log.blockMesh >&2; fail "blockMesh failed"; }
echo "cavity: mesh of $(awk '/nCells:/ {print $2}' log.blockMesh) cells, viscosity $viscosity m2/s"

icoFoam >log.icoFoam 2>&1 || fail "icoFoam ended with $?"
grep -q '^End$' log.icoFoam || fail "icoFoam stopped before its end"
if grep -qiE '[^a-z](nan|inf)([^a-z]|$)' log.icoFoam; then
    fail "icoFoam diverged: its log has numbers that are not finite"
fi

csv=postProcessing/centreline/0.5/vertical_U.csv
[ -s "$csv" ] || fail "icoFoam left no $csv"
{ echo "y,ux,uy"; awk -F, 'NR > 1 {print $1 "," $2 "," $3}' "$csv"; } >centreline.csv

# The last time step's numbers, as the solver printed them. No velocity inside
# the cavity can exceed the lid's 1 m/s; a steady flow hardly changes in a step.
awk -v viscosity="$viscosity" '
    FNR == NR && /Solving for Ux,/ { split($0, a, "Initial residual = "); residual = a[2] + 0 }
    FNR == NR && /^Courant Number/ { courant = $NF + 0 }
    FNR == NR { next }
    FNR == 1 { FS = ","; next }
    { split($0, c, ","); u = c[2] + 0
      if (n++ == 0 || u < umin) { umin = u; ymin = c[1] + 0 }
      if (u > umax) umax = u }
    END {
        if (n < 20 || umax > 1.001 || umin < -1.001 || residual > 1e-3) {
            printf "cavity: not a converged flow: %d points, u from %g to %g, residual %g\n", n, umin, umax, residual >"/dev/stderr"
            exit 1
        }
        printf "{\"viscosity\": %s, \"reynolds\": %.6g, \"u_min\": %.6g, \"y_of_u_min\": %.6g, \"residual_ux\": %.6g, \"courant_max\": %.6g}\n",
            viscosity, 0.1 / viscosity, umin, ymin, residual, courant
    }' log.icoFoam centreline.csv >result.json.part || fail "the result does not hold"
mv result.json.part result.json

echo "cavity: $(grep -c '^Time = ' log.icoFoam) steps in $(awk '/ExecutionTime/ {t = $3} END {print t}' log.icoFoam) s"
echo "cavity: $(cat result.json)"
