package code

import (
	"container/list"
	"sync"
)

// cache keeps values that never change under their key, the ones used last
// within a bound. It may be used by many goroutines.
type cache[V any] struct {
	mu    sync.Mutex
	max   int64
	held  int64
	order *list.List // of *cached, the last used first
	index map[string]*list.Element
}

type cached[V any] struct {
	key   string
	value V
	cost  int64
}

func newCache[V any](max int64) *cache[V] {
	return &cache[V]{max: max, order: list.New(), index: map[string]*list.Element{}}
}

func (c *cache[V]) get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.index[key]
	if !ok {
		var none V
		return none, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached[V]).value, true
}

// put keeps a value that costs so much of the bound. One that alone exceeds it
// is not kept.
func (c *cache[V]) put(key string, value V, cost int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.index[key]; ok || cost > c.max {
		return
	}
	c.index[key] = c.order.PushFront(&cached[V]{key, value, cost})
	for c.held += cost; c.held > c.max; {
		last := c.order.Remove(c.order.Back()).(*cached[V])
		delete(c.index, last.key)
		c.held -= last.cost
	}
}
