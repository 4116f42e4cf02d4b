package custom

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// keysOf lists the keys of a file, below t.
func keysOf(t reflect.Type) (keys []string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return keysOf(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if key := t.Field(i).Tag.Get("json"); key != "" {
				keys = append(append(keys, key), keysOf(t.Field(i).Type)...)
			}
		}
	}
	return keys
}

func TestEveryKeyAndEveryValueIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../examples/custom-schedulers/README.md")
	if err != nil {
		t.Fatal(err)
	}
	words := keysOf(reflect.TypeFor[file]())
	for name := range asked(scheduler.Submission{}) {
		words = append(words, name)
	}
	for _, list := range [][]string{ofJob, lengths, {"B", "KiB", "MiB", "GiB", "ids", "tags", "user", "folder", "value", "attributes"}} {
		words = append(words, list...)
	}
	for _, word := range words {
		if !strings.Contains(string(text), "`"+word+"`") && !strings.Contains(string(text), "`{"+word+"}`") {
			t.Errorf("%s is not in examples/custom-schedulers/README.md", word)
		}
	}
}
