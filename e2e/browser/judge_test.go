package browser

import (
	_ "embed"
	"fmt"
	"slices"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

//go:embed judge.js
var judgement string

// judge fails the test for everything that is wrong with the page as it stands
// on the screen. where names it.
func (b *browser) judge(where string) {
	b.t.Helper()
	for _, f := range run(b, chromedp.Evaluate[[]string](judgement)) {
		b.t.Errorf("%s: %s", where, f)
	}
}

// stop is where the keyboard is.
type stop struct {
	Name string
	At   int  // among all that can be reached, in the order of the page
	Seen bool // whether a reader sees where the keyboard is
	Skip bool
}

// reachable are the elements that a keyboard should reach, in the order of the
// page. Of a group of radio buttons it reaches one.
const reachable = `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, pre[tabindex]")]
	.filter((el) => !el.disabled && el.checkVisibility({visibilityProperty: true}))
	.filter((el, i, all) => el.type !== "radio" || el === (all.find((o) => o.name === el.name && o.form === el.form && o.checked) ?? all.find((o) => o.name === el.name && o.form === el.form)))`

// tabs goes through the page by the Tab key: the way begins with the link to
// the content, is in the order of the page, misses nothing, and can be seen.
func (b *browser) tabs(where string) {
	b.t.Helper()
	// The focus starts above the page, as after loading it.
	count := run(b, chromedp.Evaluate[int](`(() => {
		const top = document.createElement("span");
		top.tabIndex = -1;
		document.body.prepend(top);
		top.focus();
		top.remove();
		return `+reachable+`.length;
	})()`))
	var stops []stop
	for range count {
		run(b, chromedp.KeyEvent(kb.Tab))
		stops = append(stops, run(b, chromedp.Evaluate[stop](`(() => {
			const el = document.activeElement;
			const style = getComputedStyle(el);
			return {
				Name: el.tagName + " " + (el.getAttribute("aria-label") || el.innerText || el.name || "").trim().slice(0, 40),
				At: `+reachable+`.indexOf(el), Skip: el.matches(".skip"),
				Seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && el.getBoundingClientRect().height > 0,
			};
		})()`)))
	}
	var order []int
	for i, s := range stops {
		order = append(order, s.At)
		if !s.Seen && s.At >= 0 {
			b.t.Errorf("%s: one does not see that the keyboard is at %s", where, s.Name)
		}
		if (i == 0) != s.Skip {
			b.t.Errorf("%s: stop %d of the keyboard is %s; the link to the content is the first", where, i, s.Name)
		}
	}
	if !slices.IsSorted(order) || slices.Contains(order, -1) || len(slices.Compact(slices.Clone(order))) != count {
		b.t.Errorf("%s: the keyboard goes %v through %d places: %s", where, order, count, fmt.Sprint(stops))
	}
}
