// Package audit keeps what was refused in the audit log, writes the log's
// heads to syslog, and checks and exports the log.
//
// What was done leaves its line in the transaction that does it
// ([store.Auditor]); that is the features' work, and no line can be lost or
// written for something that did not happen. What was refused changes nothing,
// and whoever is refused can try a thousand times a second: [Log.Refused]
// collects, and [Log.Run] writes one line per actor, action and reason every
// few seconds, with how often. A flood costs a bounded number of lines, and
// the last one says that there were more.
//
// The log is a chain, which an operator with the database can make anew as a
// whole. So its head goes to syslog, which somebody else keeps, at the start,
// every hour and at the end, signed, since others write there as well;
// [Log.Verify] compares.
package audit
