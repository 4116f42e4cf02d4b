// Package jobfile reads what a user hands to hpcsera run: a job.yaml, or a
// batch script whose directives stand for one. It finds the files beside it,
// digests them, and returns the JobSpec that POST /jobs takes, with the local
// path of every byte that may have to be uploaded. The command line is its
// only caller; it asks no server.
//
// Nothing a user wrote is dropped: an unknown key, a directive that cannot be
// mapped, a pattern that matches nothing is refused with its file and line.
// What is mapped to something not quite the same is said in a notice.
//
// The consent of a user is built from what this package read from the user's
// own disk, never from what the server says was uploaded.
package jobfile
