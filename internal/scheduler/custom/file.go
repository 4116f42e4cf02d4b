package custom

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// file is a scheduler file, as its README has it.
type file struct {
	System  string            `json:"system"`  // the batch system's name, and the prefix of its custom attributes
	Product scheduler.Product `json:"product"` // its name in messages
	// Environment is what the batch system tells its jobs.
	Environment environment `json:"environment"`
	Variables   []string    `json:"variables"` // environment of the commands, such as SLURM_TIME_FORMAT=%s
	Submit      submit      `json:"submit"`
	// Assumed are fields that may be asked for without an argument, if they are
	// exactly this: node_count: 1, where a job never has more.
	Assumed map[string]int `json:"assumed"`
	// Allowed are the values that a field may have as a whole; others are refused.
	Allowed map[string]whole `json:"allowed"`
	// Attributes are the custom attributes that a job may set.
	Attributes map[string]attribute `json:"attributes"`
	Queue      listing              `json:"queue"`
	History    *listing             `json:"history"`
	Cancel     *act                 `json:"cancel"`
	Hold       *act                 `json:"hold"`
	Release    *act                 `json:"release"`
	Probe      []probe              `json:"probe"`
	States     []rule               `json:"states"` // the first that matches counts
}

type environment struct {
	ID        []string `json:"id"`        // variables with the job's id, the first that is set counts
	Cluster   string   `json:"cluster"`   // variable with the cluster's name
	Directory []string `json:"directory"` // variables with the folder the job was submitted from
	Pass      []string `json:"pass"`      // prefixes of variables that the user's program gets
	Drop      []string `json:"drop"`      // variables of those that it must not get
}

type submit struct {
	Command command `json:"command"`
	// ID matches the line of the output that has the job's id, with a group id
	// and, where there are several, one cluster.
	ID pattern `json:"id"`
	// The rest sorts what a failed command said. Unsure counts before all but
	// Unreached; what nothing matches may have queued the job.
	Refused   pattern `json:"refused"`   // nothing is queued
	Throttled pattern `json:"throttled"` // nothing is queued, and later it could be
	Unreached pattern `json:"unreached"` // the batch system never heard of it
	Unsure    pattern `json:"unsure"`    // nobody knows
}

type attribute struct {
	Arguments []template `json:"arguments"` // {value} is the value
	Allowed   whole      `json:"allowed"`
}

type listing struct {
	Command command  `json:"command"`
	ByTag   command  `json:"by_tag"` // asks by {tags} alone; the history's only, as none
	None    pattern  `json:"none"`   // what a site without history says
	Rows    rows     `json:"rows"`
	Exit    exitForm `json:"exit"`
	Nothing []string `json:"nothing"` // words for "no value"

	in string
}

type act struct {
	Command command `json:"command"`
	Gone    pattern `json:"gone"` // what is said of jobs on which nothing can be done any more
}

var never = regexp.MustCompile(`\z.`)

func (a act) gone() *regexp.Regexp {
	if a.Gone.Regexp == nil {
		return never
	}
	return a.Gone.Regexp
}

type probe struct {
	Command command `json:"command"`
	Answers pattern `json:"answers"` // what the output must have
	Version pattern `json:"version"` // each with the fact as its first group
	Cluster pattern `json:"cluster"`
	Queues  *rows   `json:"queues"` // fields name, default, state, nodes
}

// rule is what a native state means.
type rule struct {
	In         string          `json:"in"` // queue or history; left out: both
	State      whole           `json:"state"`
	Message    whole           `json:"message"`
	Phase      scheduler.Phase `json:"phase"`
	Reason     hpcsera.Reason  `json:"reason"`
	Exit       exitTrust       `json:"exit"`
	Incomplete bool            `json:"incomplete"` // the history may know more of the end
}

// The values of In.
const (
	inQueue   = "queue"
	inHistory = "history"
)

// exitTrust says whether a state's exit means something.
type exitTrust string

// Where a job that never ran is told as one that exited 0, only another exit
// is believed.
const (
	exitTold    exitTrust = "told"
	exitNonzero exitTrust = "nonzero"
)

// exitForm is how a listing writes an exit.
type exitForm string

const (
	plain      exitForm = ""            // fields exit and signal, of which signal is empty for an ordinary end
	waitStatus exitForm = "wait_status" // 768 is exit 3, 11 is signal 11 (wait(2))
	codeSignal exitForm = "code_signal" // 3:0 and 0:11
	shell      exitForm = "shell"       // above 128 it is a signal, as the shell has it
)

// pattern is a regular expression of RE2's syntax (regexp/syntax), searched for
// in a text. One that the file leaves out matches nothing.
type pattern struct{ *regexp.Regexp }

// UnmarshalJSON compiles the expression.
func (p *pattern) UnmarshalJSON(b []byte) (err error) {
	p.Regexp, err = compile(b, "%s")
	return err
}

func (p pattern) in(text []byte) bool { return p.Regexp != nil && p.Match(text) }

// whole is a pattern for a whole text. One that is left out matches any.
type whole struct{ *regexp.Regexp }

// UnmarshalJSON compiles the expression.
func (w *whole) UnmarshalJSON(b []byte) (err error) {
	w.Regexp, err = compile(b, `\A(?:%s)\z`)
	return err
}

func (w whole) is(text string) bool { return w.Regexp == nil || w.MatchString(text) }

// next is a pattern for what a text goes on with.
type next struct{ *regexp.Regexp }

// UnmarshalJSON compiles the expression.
func (n *next) UnmarshalJSON(b []byte) (err error) {
	n.Regexp, err = compile(b, `\A(?:%s)`)
	return err
}

func compile(b []byte, around string) (*regexp.Regexp, error) {
	var text string
	if err := json.Unmarshal(b, &text); err != nil || text == "" {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "a regular expression is wanted, in quotes.")
	}
	if _, err := regexp.Compile(text); err != nil { // alone: ) would end what is around it
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%v.", err)
	}
	return regexp.Compile(strings.Replace(around, "%s", text, 1))
}
