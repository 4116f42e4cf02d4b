package settings

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Create writes a file for its owner alone; fs.ErrExist if there is one.
func Create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// NewKey makes a program's secret, as a key file holds it.
func NewKey() []byte {
	secret := make([]byte, 32)
	rand.Read(secret)
	return []byte(base64.StdEncoding.EncodeToString(secret) + "\n")
}

// LoadKey reads a program's secret. make says that a missing one may be made:
// a program that was given a key file must find it, since replicas with
// different keys would not understand each other.
func LoadKey(path string, make bool) ([]byte, error) {
	if make {
		if err := Create(path, NewKey()); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make the key file: %w", err)
		}
	}
	text, err := Private(path)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) < 32 {
		return nil, fmt.Errorf("%s holds no key: 32 bytes or more in base 64", path)
	}
	return key, nil
}

// Private reads a file with a secret in one line. It refuses one that others
// can read.
func Private(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("others can open %s. Type: chmod 600 %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// LoadKeys reads the secrets that a program had before, all of which must be
// there.
func LoadKeys(paths []string) ([][]byte, error) {
	var keys [][]byte
	for _, path := range paths {
		key, err := LoadKey(path, false)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}
