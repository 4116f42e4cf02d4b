// Package failpoint lets the kill tests stop a program at a named point. In a
// normal build [Hit] is an empty function; with the build tag failpoint it
// obeys the environment variable HPCSERA_FAILPOINT:
//
//	NAME=kill          SIGKILL this process at the point
//	NAME=kill@N        at its N-th passing
//	NAME=pause:FILE    create FILE.here and wait there until FILE exists
//
// A file named failpoints in the program's own folder is obeyed as well, for
// wrappers, which get no environment from whoever starts the test.
//
// Several are separated by commas. Every point is named where it stands, by
// program and moment, and by what is at stake where a program passes there
// with many things: wrapper.after-claim, agent.before-journal.submit,
// server.after-commit.job.state.queued. A count would say less: how often a
// point is passed before hangs on how the work was grouped.
package failpoint
