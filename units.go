package hpcsera

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time written with its units, such as 2h30m or 3d.
// It is at least one second and has no fractions of one.
type Duration time.Duration

var dayPattern = regexp.MustCompile(`^(\d{1,5})d`)

// ParseDuration reads 90s, 30m, 2h30m, 3d or 1d12h.
func ParseDuration(s string) (Duration, error) {
	rest, days := s, 0
	if m := dayPattern.FindStringSubmatch(s); m != nil {
		days, _ = strconv.Atoi(m[1])
		rest = s[len(m[0]):]
	}
	var d time.Duration
	if rest != "" || days == 0 {
		var err error
		if d, err = time.ParseDuration(rest); err != nil || rest[0] == '-' || rest[0] == '+' {
			return 0, Errorf(InvalidField, "%q is not a duration.", s).Hint("Write it with units, such as 2h30m.")
		}
	}
	d += time.Duration(days) * 24 * time.Hour
	if d < time.Second || d%time.Second != 0 || d > 10*365*24*time.Hour {
		return 0, Errorf(InvalidField, "%q is not a whole number of seconds between 1s and ten years.", s)
	}
	return Duration(d), nil
}

// String returns the shortest form with units, such as 2h30m.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalJSON writes the form of String.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the forms of ParseDuration.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return Errorf(InvalidField, "a duration is a string with units, such as \"2h30m\".")
	}
	v, err := ParseDuration(s)
	*d = v
	return err
}

// Bytes is an amount of memory written with its binary unit, such as 32GiB.
type Bytes int64

var byteUnits = []struct {
	name string
	size Bytes
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseBytes reads 512MiB, 32GiB and so on. The unit is required.
func ParseBytes(s string) (Bytes, error) {
	for _, u := range byteUnits {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			v, err := strconv.ParseInt(n, 10, 64)
			if err == nil && v > 0 && v <= int64((1<<62)/u.size) {
				return Bytes(v) * u.size, nil
			}
		}
	}
	return 0, Errorf(InvalidField, "%q is not an amount of memory.", s).
		Hint("Write a whole number and a unit: KiB, MiB, GiB or TiB, such as 32GiB.")
}

// String returns the largest unit that divides b.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && b%u.size == 0 {
			return fmt.Sprintf("%d%s", b/u.size, u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}

// MarshalJSON writes the form of String.
func (b Bytes) MarshalJSON() ([]byte, error) { return json.Marshal(b.String()) }

// UnmarshalJSON reads the forms of ParseBytes.
func (b *Bytes) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return Errorf(InvalidField, "an amount of memory is a string with a unit, such as \"32GiB\".")
	}
	v, err := ParseBytes(s)
	*b = v
	return err
}
