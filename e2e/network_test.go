package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
)

// network carries connections to an address until it is cut.
type network struct {
	listener net.Listener
	to       string

	mu   sync.Mutex
	down bool
	open map[net.Conn]bool
}

func newNetwork(t *testing.T, to string) *network {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{listener: listener, to: to, open: map[net.Conn]bool{}}
	var carriers sync.WaitGroup
	carriers.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			carriers.Go(func() { n.carry(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		n.cut(true)
		carriers.Wait()
	})
	return n
}

func (n *network) url() string { return "http://" + n.listener.Addr().String() }

// cut breaks all connections and lets no new one through, or heals.
func (n *network) cut(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	for c := range n.open {
		c.Close()
	}
}

// hold keeps a connection until it is let go; false when the network is cut.
func (n *network) hold(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[c] = true
	return !n.down
}

func (n *network) letGo(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
	c.Close()
}

func (n *network) carry(from net.Conn) {
	defer n.letGo(from)
	if !n.hold(from) {
		return
	}
	to, err := net.Dial("tcp", n.to)
	if err != nil {
		return
	}
	defer n.letGo(to)
	if !n.hold(to) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(from, to)
		from.Close()
	})
	_, _ = io.Copy(to, from)
	to.Close()
	back.Wait()
}
