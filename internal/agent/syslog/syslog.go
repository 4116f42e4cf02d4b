// Package syslog tells this host's log what the site wants to know of the
// agent, whatever the user does with the agent's own log. The agent sends one
// line for every start and one for every alarm.
//
// Sending never waits for long and never stops anything: a line that cannot be
// sent is lost, and the next one that can be says how many were.
package syslog

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Socket is where this host's log listens.
const Socket = "/dev/log"

// Priority is facility and severity of a line (RFC 3164).
type Priority int

// The priorities of an agent's lines; both are of facility auth.
const (
	Info  Priority = 4*8 + 6
	Alert Priority = 4*8 + 1
)

// The longest that a send may take, and the pause after one that failed.
const (
	patience = 100 * time.Millisecond
	pause    = 10 * time.Second
)

// maxLine is what receivers take as one line (RFC 3164 names 1024 bytes; those
// of today take more).
const maxLine = 2000

// Log sends lines to one socket. It may be used concurrently.
type Log struct {
	socket, program string

	mu     sync.Mutex
	conn   net.Conn
	failed error     // of the last send
	until  time.Time // nothing is tried before
	lost   int
}

// New returns a Log for a datagram socket. Nothing is opened before the first
// line.
func New(socket, program string) *Log { return &Log{socket: socket, program: program} }

// Send sends one line. An error says why the line is lost, and first that the
// line before it was not.
func (l *Log) Send(p Priority, line string) (first bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.failed != nil && now.Before(l.until) {
		l.lost++
		return false, l.failed
	}
	if l.lost > 0 {
		line += fmt.Sprintf(" (%d lines before this one were lost)", l.lost)
	}
	first = l.failed == nil
	err = l.write(now, p, line)
	if err != nil { // the receiver may have been started anew
		l.close()
		err = l.write(now, p, line)
	}
	if l.failed = err; err != nil {
		l.close()
		l.lost, l.until = l.lost+1, now.Add(pause)
		return first, err
	}
	l.lost = 0
	return false, nil
}

func (l *Log) write(now time.Time, p Priority, line string) error {
	if l.conn == nil {
		conn, err := dial(l.socket)
		if err != nil {
			return err
		}
		l.conn = conn
	}
	if err := l.conn.SetWriteDeadline(now.Add(patience)); err != nil {
		return err
	}
	text := fmt.Sprintf("<%d>%s %s[%d]: %s", p, now.Format(time.Stamp), l.program, os.Getpid(), printable(line))
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "")
	}
	_, err := l.conn.Write([]byte(text))
	return err
}

// printable escapes what could make one line look like two, or like another
// program's. Much of a line is the server's word.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "\\u%04x", r)
		}
	}
	return b.String()
}

func (l *Log) close() {
	if l.conn != nil {
		_ = l.conn.Close() // nothing is buffered
		l.conn = nil
	}
}

// Close lets go of the socket. The Log can be used again.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
}

// dial connects, which for datagrams waits for nobody.
func dial(socket string) (net.Conn, error) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Probe says whether anybody listens at the socket.
func Probe(socket string) error {
	conn, err := dial(socket)
	if err != nil {
		return err
	}
	return conn.Close()
}
