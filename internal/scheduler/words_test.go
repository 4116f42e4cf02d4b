package scheduler_test

import (
	"slices"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func TestIndicesAreReadWholeOrNotAtAll(t *testing.T) {
	for text, want := range map[string][]int{
		"7": {7}, "0-2": {0, 1, 2}, "1,4-6": {1, 4, 5, 6}, "2,3,5-9:2": {2, 3, 5, 7, 9}, "0-8:4": {0, 4, 8}, "3-3": {3},
		"": nil, "-": nil, "x": nil, "5-3": nil, "1-": nil, "1,": nil, "1-9:0": nil, "-1": nil, "1-99999999999": nil, "1-11": nil, "1-5,6-11": nil,
	} {
		got, ok := scheduler.Indices(text, 10)
		if ok != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", text, got, ok, want)
		}
	}
}
