package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/hpcsera/hpcsera"
)

// readSpecs reads the body of POST /jobs: one JobSpec, or a BulkRequest. It is
// read with the strict reader of everything that is signed or submitted
// instead of the contract's validator: that is quicker by far for thousands of
// jobs, knows the keys of later versions, and refuses names given twice. The
// rules on values and numbers are the features'.
func readSpecs(body []byte) (specs []hpcsera.JobSpec, bulk bool, err error) {
	if !isBulk(body) {
		specs = make([]hpcsera.JobSpec, 1)
		err := hpcsera.Decode(body, &specs[0])
		specs[0].Part()
		return specs, false, err
	}
	var request hpcsera.BulkRequest
	if err := hpcsera.Decode(body, &request); err != nil {
		return nil, true, indexed(err)
	}
	for i := range request.Jobs {
		request.Jobs[i].Part()
	}
	return request.Jobs, true, nil
}

// isBulk reports whether an object has the member jobs. Members before it are
// skipped, not read.
func isBulk(body []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return false
		}
		if name == "jobs" {
			return true
		}
		if err := dec.Decode(new(json.RawMessage)); err != nil {
			return false
		}
	}
	return false
}

// indexed gives an error in one job of many its index.
func indexed(err error) error {
	var e *hpcsera.Error
	if !errors.As(err, &e) {
		return err
	}
	index, digits := 0, 0
	rest, found := bytes.CutPrefix([]byte(e.Field), []byte("jobs["))
	for _, c := range rest {
		if c < '0' || c > '9' || digits > 6 {
			break
		}
		index, digits = index*10+int(c-'0'), digits+1
	}
	if found && digits > 0 {
		e.Index = index
	}
	return e
}
