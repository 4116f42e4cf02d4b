package jobfile

// takes says whether an option has a value.
type takes uint8

const (
	nothing  takes = iota
	required       // --name=VALUE or --name VALUE
	optional       // --name or --name=VALUE
)

// option is one option of sbatch and what becomes of it.
type option struct {
	name   string
	letter byte
	takes  takes
	apply  func(*conversion, directive) error
}

// sbatchOptions are all options of Slurm 22.05's sbatch, since abbreviations
// are unique among all of them.
var sbatchOptions = []option{
	// What job.yaml has a field for.
	{"job-name", 'J', required, (*conversion).jobName},
	{"nodes", 'N', required, (*conversion).nodes},
	{"ntasks", 'n', required, number("resources.process_count")},
	{"ntasks-per-node", 0, required, number("resources.processes_per_node")},
	{"tasks-per-node", 0, required, number("resources.processes_per_node")},
	{"cpus-per-task", 'c', required, number("resources.cpu_cores_per_process")},
	{"gpus-per-task", 0, required, number("resources.gpu_cores_per_process")},
	{"gpus", 'G', required, (*conversion).allGPUs},
	{"mem", 0, required, (*conversion).memory},
	{"mem-per-cpu", 0, required, (*conversion).memory},
	{"exclusive", 0, optional, (*conversion).exclusive},
	{"time", 't', required, (*conversion).time},
	{"partition", 'p', required, text("attributes.queue_name")},
	{"account", 'A', required, text("attributes.account")},
	{"reservation", 0, required, text("attributes.reservation_id")},
	{"requeue", 0, nothing, flag("requeue", true)},
	{"no-requeue", 0, nothing, flag("requeue", false)},
	{"hold", 'H', nothing, flag("hold", true)},
	{"comment", 0, required, text("annotations.comment")},

	// What Slurm's driver passes on as it is.
	{"constraint", 'C', required, custom},
	{"prefer", 0, required, custom},
	{"cluster-constraint", 0, required, custom},
	{"qos", 'q', required, custom},
	{"licenses", 'L', required, custom},
	{"wckey", 0, required, custom},
	{"gres", 0, required, custom},
	{"gres-flags", 0, required, custom},
	{"gpus-per-node", 0, required, custom},
	{"gpu-bind", 0, required, custom},
	{"gpu-freq", 0, required, custom},
	{"mem-per-gpu", 0, required, custom},
	{"tmp", 0, required, custom},
	{"begin", 'b', required, custom},
	{"deadline", 0, required, custom},
	{"time-min", 0, required, custom},
	{"nice", 0, optional, nice},
	{"signal", 0, required, custom},
	{"switches", 0, required, custom},
	{"distribution", 'm', required, custom},
	{"hint", 0, required, custom},
	{"mincpus", 0, required, custom},
	{"threads-per-core", 0, required, custom},
	{"cores-per-socket", 0, required, custom},
	{"sockets-per-node", 0, required, custom},
	{"ntasks-per-core", 0, required, custom},
	{"ntasks-per-socket", 0, required, custom},
	{"ntasks-per-gpu", 0, required, custom},
	{"core-spec", 'S', required, custom},
	{"thread-spec", 0, required, custom},
	{"cpu-freq", 0, required, custom},
	{"mem-bind", 0, required, custom},
	{"network", 0, required, custom},
	{"nodelist", 'w', required, nodeNames},
	{"exclude", 'x', required, nodeNames},

	// What is done here in another way, or has no effect.
	{"output", 'o', required, (*conversion).streamFile},
	{"error", 'e', required, (*conversion).streamFile},
	{"open-mode", 0, required, noEffect},
	{"export", 0, required, (*conversion).export},
	{"parsable", 0, nothing, noEffect},
	{"quiet", 'Q', nothing, noEffect},
	{"verbose", 'v', nothing, noEffect},
	{"ignore-pbs", 0, nothing, noEffect},

	// What later versions map.
	{"array", 'a', required, later},
	{"mail-type", 0, required, later},
	{"mail-user", 0, required, later},
	{"container", 0, required, later},

	// What cannot be mapped.
	{"chdir", 'D', required, never("the job runs in a directory of its own; change it with cd in the script")},
	{"input", 'i', required, never("redirect the input in the script")},
	{"dependency", 'd', required, never("Slurm's job ids mean nothing here; use dependencies in job.yaml, or --after JOB")},
	{"wait", 'W', nothing, never("hpcsera run waits, hpcsera submit does not")},
	{"wrap", 0, required, never("the script is what runs")},
	{"test-only", 0, nothing, never("use --dry-run")},
	{"clusters", 'M', required, never("name the site instead: --site SITE")},
	{"cluster", 0, required, never("name the site instead: --site SITE")},
	{"export-file", 0, required, never("write environment: in job.yaml")},
	{"get-user-env", 0, optional, never("write environment: in job.yaml")},
	{"uid", 0, required, never("the job runs as the user of the agent")},
	{"gid", 0, required, never("the job runs as the user of the agent")},
	{"nodefile", 'F', required, never("name the nodes with --nodelist")},
	{"acctg-freq", 0, required, never("")},
	{"batch", 0, required, never("")},
	{"bb", 0, required, never("")},
	{"bbf", 0, required, never("")},
	{"context", 0, required, never("")},
	{"contiguous", 0, nothing, never("")},
	{"cpus-per-gpu", 0, required, never("use --cpus-per-task")},
	{"delay-boot", 0, required, never("")},
	{"extra-node-info", 'B', required, never("use --sockets-per-node, --cores-per-socket and --threads-per-core")},
	{"gpus-per-socket", 0, required, never("use --gpus-per-node or --gpus-per-task")},
	{"help", 'h', nothing, never("")},
	{"kill-on-invalid-dep", 0, required, never("")},
	{"mcs-label", 0, required, never("")},
	{"no-kill", 'k', optional, never("")},
	{"ntasks-per-tres", 0, required, never("")},
	{"overcommit", 'O', nothing, never("")},
	{"oversubscribe", 's', nothing, never("")},
	{"power", 0, required, never("")},
	{"priority", 0, required, never("use --nice")},
	{"profile", 0, required, never("")},
	{"propagate", 0, optional, never("")},
	{"reboot", 0, nothing, never("")},
	{"spread-job", 0, nothing, never("")},
	{"usage", 0, nothing, never("")},
	{"use-min-nodes", 0, nothing, never("")},
	{"version", 'V', nothing, never("")},
	{"wait-all-nodes", 0, required, never("")},
}
