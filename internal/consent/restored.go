package consent

import "github.com/hpcsera/hpcsera/internal/records"

// Restored drops, in a database that was put back from a backup, what may have
// been decided or used in the lost hours: requests, decisions that no deployment
// fetched yet, and sign-ins that are under way. Deployments, keys that sign code,
// approvals and withdrawals stay.
//
// Agents refuse a status list with a lower number than they saw, as one that
// hides withdrawals. So the numbers go on far above those of the lost hours. It
// returns the number of requests.
func Restored(tx records.Tx) (requests int, err error) {
	for _, kind := range []string{kindUserCode, kindDecision, kindCeremony, kindGrant, kindLogin, kindRelying} {
		if _, err := records.Drop(tx, kind); err != nil {
			return 0, err
		}
	}
	if requests, err = records.Drop(tx, kindRequest); err != nil {
		return 0, err
	}
	list, found, err := get[current](tx, kindStatus, "current")
	if err != nil || !found {
		return requests, err
	}
	// The text of a restored list is never served: the next start signs another.
	list.Number += statusLift
	return requests, tx.Put(kindStatus, "current", current{Number: list.Number}, records.Options{})
}

// statusLift is more lists than can have been signed in the hours that a backup
// lacks.
const statusLift = 1_000_000_000
