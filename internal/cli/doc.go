// Package cli is the command line hpcsera: what people and CI jobs use.
// cmd/hpcsera starts it, and so do its tests; [Run] is all they need. Each
// command is a file.
//
// What every command keeps:
//
//   - The exit code says what happened (exit.go has the one table): 0 done,
//     1 something on this machine, 2 usage, 10 the job failed, 11 it was
//     cancelled, 12 refused, 13 the wait ended before the job did, 20 the
//     server cannot be reached.
//   - Standard output carries what was asked for (a job's output, a table, an
//     id), standard error everything said beside it, so pipes stay clean.
//   - Whatever a user, a job or a server wrote is shown with control, ANSI and
//     bidirectional characters escaped.
//   - A token comes from the environment, a file, standard input or the
//     keyring. It is no argument, and no message holds it.
//   - Colour, progress and questions appear on a terminal only.
//
// Settings are found in this order: flags, job.yaml, a script's directives,
// environment (HPCSERA_SERVER, HPCSERA_TOKEN, HPCSERA_PROJECT, HPCSERA_SITE),
// the context in use.
//
// The client never signs on the server's word. A statement is built from the
// local files; its deployment is the server's URL as the user configured it,
// its agents are the thumbprints the user put into the context or gave with
// --agent.
package cli
