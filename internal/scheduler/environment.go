package scheduler

// Environment is what a batch system puts into the environment of its jobs,
// as far as the wrapper needs it.
type Environment struct {
	ID        []string // variables with the job's id, the first that is set counts
	Index     string   // variable with an array member's index; "" where there are no arrays
	First     int      // index of the first member
	Member    string   // a member's id, made of {id} and {index}; "" where ID is it already
	Cluster   string   // variable with the cluster's name; "" without clusters
	Directory []string // variables with the folder the job was submitted from
	Pass      []string // prefixes of variables that the user's program gets
	Drop      []string // variables of those that it must not get
}

// Environment returns what the driver says of its jobs' environment.
func (s *Scheduler) Environment() Environment { return s.driver.Environment() }
