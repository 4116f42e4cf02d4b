package journal

import (
	"bytes"
	"fmt"

	"github.com/hpcsera/hpcsera"
)

// shared is what successive orders have in common, which is written once: a
// thousand orders of one code are a few hundred bytes each and not some
// kilobytes. It holds, by the digest of the code, the last order that stands
// there whole. Writer and reader go through the same orders, and any other entry
// ends their row.
type shared map[string]*hpcsera.Order

// brief returns the entry as it is written.
func (s shared) brief(e Entry) Entry {
	if e.Order == nil || e.Order.Spec == nil {
		s.pass(e)
		return e
	}
	spec, first := *e.Order.Spec, s[e.Order.Spec.Digest]
	if first == nil || !bytes.Equal(first.Spec.Manifest, spec.Manifest) || !bytes.Equal(first.Spec.Statement, spec.Statement) || first.Spec.Signature != spec.Signature {
		s[spec.Digest] = e.Order
		return e
	}
	spec.Like, spec.Manifest, spec.Statement, spec.Signature = first.JobID, nil, nil, ""
	order := *e.Order
	order.Spec, e.Order = &spec, &order
	return e
}

// complete makes an entry that was read whole.
func (s shared) complete(e Entry) error {
	if e.Order == nil || e.Order.Spec == nil {
		s.pass(e)
		return nil
	}
	spec := e.Order.Spec
	if spec.Like == "" {
		s[spec.Digest] = e.Order
		return nil
	}
	first := s[spec.Digest]
	if first == nil || first.JobID != spec.Like {
		return fmt.Errorf("the order that this one is like, about %s, does not stand before it", spec.Like)
	}
	spec.Like, spec.Manifest, spec.Statement, spec.Signature = "", first.Spec.Manifest, first.Spec.Statement, first.Spec.Signature
	return nil
}

// pass ends the row of orders where another entry follows.
func (s shared) pass(e Entry) {
	if e.Order == nil {
		clear(s)
	}
}
