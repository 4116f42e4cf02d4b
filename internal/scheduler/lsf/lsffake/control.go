package lsffake

import (
	"fmt"
	"os"
)

// control is bkill, bstop and bresume: a line for each job, and the
// exit status of a failure if one failed.
func (c *command) control(args []string) int {
	status := 0
	for _, id := range args {
		if id == "" || id[0] == '-' || id == "0" {
			return c.fail("%s: Illegal job ID.", id)
		}
	}
	err := c.update(func(s *state) error {
		for _, id := range args {
			found, _ := selection{ids: []string{id}}.pick(s.Jobs)
			complaint := "No matching job found"
			for _, j := range found {
				if complaint = c.act(j); complaint == "" {
					break
				}
			}
			if complaint != "" {
				status = c.fail("Job <%s>: %s", id, complaint)
				continue
			}
			fmt.Fprintf(c.stdout, "Job <%s> is being %s\n", id, map[string]string{
				"bkill": "terminated", "bstop": "stopped", "bresume": "resumed",
			}[c.name])
		}
		return nil
	})
	if err != nil {
		return c.fail("System call failed: %v", err)
	}
	return status
}

// act does to one job what the command is for, and returns LSF's complaint.
func (c *command) act(j *job) string {
	if j.ended() {
		return "Job has already finished"
	}
	switch c.name {
	case "bkill":
		j.say("Signal <KILL> requested by user or administrator <%s>;", j.User)
		if j.State != "RUN" {
			j.end(0, termOwner)
			return ""
		}
		if err := os.WriteFile(c.path("work", j.Token+".kill"), nil, 0o600); err != nil {
			return "System call failed: " + err.Error()
		}
	case "bstop":
		if j.State == "PSUSP" {
			return "Job has already been suspended"
		}
		if j.State != "PEND" {
			return "Operation not supported" // there is no need for it in tests
		}
		j.State = "PSUSP"
		j.say("Suspended by user or administrator <%s>;", j.User)
	case "bresume":
		if j.State == "PSUSP" {
			j.State = "PEND"
			j.say("Resumed by user or administrator <%s>;", j.User)
		}
	}
	return ""
}

func (c *command) lsid([]string) int {
	fmt.Fprint(c.stdout, `IBM Spectrum LSF Standard 10.1.0.14, Jun 15 2023
Copyright International Business Machines Corp. 1992, 2016.
US Government Users Restricted Rights - Use, duplication or disclosure restricted by GSA ADP Schedule Contract with IBM Corp.

My cluster name is fakecluster
My master name is fake1
`)
	return 0
}

func (c *command) bhosts([]string) int {
	fmt.Fprintf(c.stdout, "HOST_NAME          STATUS       JL/U    MAX  NJOBS    RUN  SSUSP  USUSP    RSV \n"+
		"fake1              ok              -   %4d      0      0      0      0      0\n", c.Slots)
	return 0
}

func (c *command) lshosts([]string) int {
	fmt.Fprint(c.stdout, "HOST_NAME                       type       model  cpuf ncpus maxmem maxswp server RESOURCES\n"+
		"fake1                         X86_64    Intel_EM  60.0    64 257.4G   4.0G    Yes (mg)\n")
	return 0
}

// bparams tells one parameter of the many: what the real one says around it, no
// documentation fixes.
func (c *command) bparams([]string) int {
	fmt.Fprintf(c.stdout, "MBD_SLEEP_TIME = 10\nMAX_JOB_ARRAY_SIZE = %d\n", c.ArraySize)
	return 0
}

func (c *command) bqueues([]string) int {
	for i, q := range queues {
		if i > 0 {
			fmt.Fprint(c.stdout, "-------------------------------------------------------------------------------\n")
		}
		fmt.Fprintf(c.stdout, "\nQUEUE: %s\n  -- %s\n\nPARAMETERS/STATISTICS\n"+
			"PRIO NICE STATUS          MAX JL/U JL/P JL/H NJOBS  PEND   RUN SSUSP USUSP  RSV PJOBS\n"+
			" 30    0  Open:Active       -    -    -    -     0     0     0     0     0    0     0\n", q.name, q.text)
		if q.limit > 0 {
			fmt.Fprintf(c.stdout, "\nMAXIMUM LIMITS:\n RUNLIMIT                \n %d.0 min                 \n", q.limit)
		}
		fmt.Fprint(c.stdout, "\nUSERS: all\nHOSTS:  all\n\n")
	}
	return 0
}
