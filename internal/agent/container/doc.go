// Package container brings the image of a signed code part to the site and says
// how a program runs in it. The agent calls it on the login node, before a step
// is submitted; on the compute node nothing of it runs.
//
// An image is named by the digest of its manifest, which the user signed. This
// package itself fetches it (OCI Distribution 1.1) and checks manifest,
// configuration and layers against that digest before anything of it is looked
// into; no other program talks to a registry, so credentials stand in no command
// line and in nobody else's files. What was checked is handed to the site's own
// tool as an archive, by the commands of a [Runtime], and what the tool makes of
// it is kept, one folder per digest and runtime, where compute nodes see it:
//
//	DIR/HEX-KEY/image     what the tool made: a file, a folder, or nothing where
//	                      the tool keeps images itself
//	DIR/HEX-KEY/ready     written last
//
// A folder appears by a rename, so that a half-made image is never used. The
// files are the user's own: that they stay as they were made rests on the
// folder's mode, as with the agent's own binary.
package container
