package code

import (
	"fmt"
	"testing"
)

func TestACacheKeepsWhatWasUsedLastWithinItsBound(t *testing.T) {
	c := newCache[int](10)
	for i := range 5 {
		c.put(fmt.Sprint(i), i, 2)
	}
	c.get("0") // used, so it outlives the next
	c.put("5", 5, 2)
	c.put("huge", 6, 11)
	c.put("5", 7, 2) // values never change under their key
	for key, want := range map[string]int{"0": 0, "2": 2, "5": 5} {
		if got, ok := c.get(key); !ok || got != want {
			t.Errorf("%s: got %d, %v, want %d", key, got, ok, want)
		}
	}
	for _, key := range []string{"1", "huge"} {
		if got, ok := c.get(key); ok {
			t.Errorf("%s: got %d, want it forgotten", key, got)
		}
	}
	if c.held != 10 || c.order.Len() != len(c.index) {
		t.Errorf("got a cost of %d in %d and %d entries", c.held, c.order.Len(), len(c.index))
	}
}
