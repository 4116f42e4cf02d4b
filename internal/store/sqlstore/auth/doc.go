// Package authstore is the Auth app's database: [records.Store] on SQLite and
// on PostgreSQL. Only wiring opens it; everything else sees the seam.
//
// On SQLite a writing transaction takes the file's write lock as it begins; on
// PostgreSQL it begins by locking the row with the audit log's end. So writing
// transactions follow one another, whatever process they come from, and what
// one reads stays true until it commits. There are six statements, so they are
// written by hand.
//
// It shares no code with the main database's package: that one is built
// around a writer shared by thousands of jobs a second, this one around being
// read in a sitting, and a separate Auth app must not depend on the other's
// schema.
package authstore
