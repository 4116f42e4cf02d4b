package server

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// Certificate returns a TLS configuration with a certificate from two PEM
// files. A renewed pair is taken up within a minute; a pair that cannot be
// read leaves the one before in use.
func Certificate(certFile, keyFile string) (*tls.Config, error) {
	p := &pair{certFile: certFile, keyFile: keyFile}
	if err := p.load(); err != nil {
		return nil, fmt.Errorf("load the certificate %s and its key: %w", certFile, err)
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current(), nil },
	}, nil
}

type pair struct {
	certFile, keyFile string

	mu      sync.Mutex
	cert    *tls.Certificate
	changed time.Time // of the certificate's file, when loaded
	looked  time.Time
}

func (p *pair) load() error {
	info, err := os.Stat(p.certFile)
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	p.cert, p.changed, p.looked = &cert, info.ModTime(), time.Now()
	return nil
}

func (p *pair) current() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.looked) > time.Minute {
		p.looked = time.Now()
		if info, err := os.Stat(p.certFile); err == nil && !info.ModTime().Equal(p.changed) {
			_ = p.load()
		}
	}
	return p.cert
}
