// Package page is the frame of every page of both programs: layout, style
// sheet, the headers that keep other sites out, and what templates need. What
// is on a page belongs to the feature that shows it.
//
// A program makes one [Frame] and each feature its [Pages] from its own
// templates. A page is a file NAME.html that defines "title" and "main", and
// "scripts" where it needs one; files that begin with an underscore define
// parts for all pages of the feature. Templates see a [View] and these
// functions:
//
//	path "/x"       the path below the program's prefix
//	asset "x.css"   the address of an embedded file
//	show s          s with control, direction and invisible characters visible
//	showText s      the same for text with lines, in <pre>
//	when t          a time as <time>; "never" for none
//	count n "a" "b" 1 a, 2 b
//
// and the parts "problem" (an *hpcsera.Error above a form) and "passkey" (the
// place where a passkey's failure is told).
//
// Promises: nothing is loaded from anywhere else and nothing inline is run
// (Content-Security-Policy); no other site can frame a page or post to it
// ([Frame.Protect]); everything works without scripts, except passkeys; a page
// is complete or an error, never half. Text that others wrote must go through
// show: HTML escaping alone lets it turn the reading direction around or hide
// characters. pagetest checks the result.
//
// The style sheet knows these classes. Layout: card, narrow (a column for one
// form), lead, actions (a row of buttons), grid, split (a title with an
// action beside it), list (rows with an action each; row keeps several in one
// line; log begins rows with a time), item (one of several in a card), steps
// (what to do first, in order), tiles of tile (numbers that lead somewhere),
// crumbs (the way up). Words: hint, muted,
// badge with ok warn bad, note with ok warn bad, empty (what to do first),
// secret (shown once), code, codes, fingerprint. Buttons: primary, danger, quiet,
// wide; actions row stands in a table's cell; a
// link can be class="button". Forms: field, checks (a fieldset of boxes),
// choices (a fieldset of explained ones), copy (a field with a button beside).
// table.flow becomes cards on a phone; its cells carry data-label. dl.facts is
// a list of names and values. pre.diff holds ins and del.
package page
