package hpcsera_test

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hpcsera/hpcsera"
)

func TestDurationsNeedTheirUnits(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "30m": 30 * time.Minute, "2h30m": 150 * time.Minute, "3d": 72 * time.Hour, "1d12h": 36 * time.Hour,
	} {
		if got, err := hpcsera.ParseDuration(text); err != nil || time.Duration(got) != want {
			t.Errorf("%q: got %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "2", "-5m", "+5m", "0s", "1.5s", "300ms", "2:30:00", "1w", "99999d", "d", "5m5", "１h", "1d-1h", "1d+1h"} {
		if got, err := hpcsera.ParseDuration(text); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%q: got %v, %v, want invalid_field", text, got, err)
		}
	}
}

func TestAmountsOfMemoryNeedTheirUnits(t *testing.T) {
	for text, want := range map[string]hpcsera.Bytes{"1KiB": 1 << 10, "512MiB": 512 << 20, "32GiB": 32 << 30, "2TiB": 2 << 40} {
		if got, err := hpcsera.ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: got %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "32", "32G", "32GB", "-1GiB", "0GiB", "1.5GiB", "GiB", "99999999999TiB", "32 GiB"} {
		if got, err := hpcsera.ParseBytes(text); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%q: got %v, %v, want invalid_field", text, got, err)
		}
	}
}

func TestUnitsSurviveTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := hpcsera.Duration(time.Duration(rapid.Int64Range(1, 300_000_000).Draw(t, "seconds")) * time.Second)
		b := hpcsera.Bytes(rapid.Int64Range(1, 1<<40).Draw(t, "KiB")) << 10
		text, err := json.Marshal(struct {
			D hpcsera.Duration
			B hpcsera.Bytes
		}{d, b})
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			D hpcsera.Duration
			B hpcsera.Bytes
		}
		if err := json.Unmarshal(text, &got); err != nil || got.D != d || got.B != b {
			t.Fatalf("%s: got %v %v (%v), want %v %v", text, got.D, got.B, err, d, b)
		}
	})
}

func TestNumbersWithoutUnitsAreRefusedInJSON(t *testing.T) {
	var a hpcsera.Attributes
	if err := json.Unmarshal([]byte(`{"duration": 30}`), &a); hpcsera.CodeOf(err) != hpcsera.InvalidField {
		t.Errorf("duration 30: got %v, want invalid_field", err)
	}
	var r hpcsera.Resources
	if err := json.Unmarshal([]byte(`{"memory": 32}`), &r); hpcsera.CodeOf(err) != hpcsera.InvalidField {
		t.Errorf("memory 32: got %v, want invalid_field", err)
	}
}
