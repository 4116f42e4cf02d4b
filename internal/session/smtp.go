package session

import (
	"context"
	"crypto/tls"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"strings"
	"time"
)

// SMTP is a Mailer that hands mails to a server. It uses TLS where the server
// offers it, and never sends a password without.
type SMTP struct {
	Server   string // HOST:PORT
	From     string
	User     string // "" signs in nowhere
	Password string
	// TLS is for servers whose certificate the system does not know; nil
	// verifies as usual.
	TLS *tls.Config
	Now func() time.Time
}

// Send hands a mail to the server.
func (m *SMTP) Send(ctx context.Context, letter Mail) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("mail by %s: %w", m.Server, err)
		}
	}()
	host, _, err := net.SplitHostPort(m.Server)
	if err != nil {
		return err
	}
	body, to, from, err := m.compose(letter)
	if err != nil {
		return err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return err
	}
	defer c.Close()
	if ok, _ := c.Extension("STARTTLS"); ok {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if m.TLS != nil {
			config = m.TLS.Clone()
		}
		config.ServerName = host
		if err := c.StartTLS(config); err != nil {
			return err
		}
	}
	if m.User != "" {
		// PlainAuth refuses to send a password without TLS, loopback apart.
		if err := c.Auth(smtp.PlainAuth("", m.User, m.Password, host)); err != nil {
			return err
		}
	}
	if err := c.Mail(from); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// compose writes a mail. Addresses are parsed and the subject is encoded, so
// that no text becomes a header.
func (m *SMTP) compose(letter Mail) (body []byte, to, from string, err error) {
	sender, err := mail.ParseAddress(m.From)
	if err != nil {
		return nil, "", "", fmt.Errorf("sender: %w", err)
	}
	receiver, err := mail.ParseAddress(letter.To)
	if err != nil {
		return nil, "", "", fmt.Errorf("receiver: %w", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMIME-Version: 1.0\r\nAuto-Submitted: auto-generated\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
		sender, receiver, mime.QEncoding.Encode("utf-8", letter.Subject), m.Now().Format(time.RFC1123Z))
	q := quotedprintable.NewWriter(&b)
	if _, err := q.Write([]byte(strings.ReplaceAll(letter.Text, "\n", "\r\n"))); err != nil {
		return nil, "", "", err
	}
	if err := q.Close(); err != nil {
		return nil, "", "", err
	}
	return []byte(b.String()), receiver.Address, sender.Address, nil
}
