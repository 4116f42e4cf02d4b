// Package browser holds the tests that need a real browser: Debian's Chromium,
// driven over the DevTools protocol, against the real handlers on
// http://localhost. Every page that a test walks through is judged as a reader,
// a keyboard and a screen reader find it, at phone and desk width, light and
// dark, and its pictures stay in test/artifacts/pages. A machine without
// Chromium fails the tests: nothing here is shown on a stand-in.
package browser
