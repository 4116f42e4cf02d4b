package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// examples are those of the commands about which one line says all else. The
// others have theirs where they are made.
var examples = map[string]string{
	"hpcsera agent list":     "hpcsera agent list",
	"hpcsera cancel":         "hpcsera cancel j_8f2k4m6p8r0t2v4x6z8a\nhpcsera cancel --purge j_8f2k4m6p8r0t2v4x6z8a",
	"hpcsera client list":    "hpcsera client list",
	"hpcsera code list":      "hpcsera code list",
	"hpcsera code show":      "hpcsera code show cavity",
	"hpcsera context list":   "hpcsera context list",
	"hpcsera context remove": "hpcsera context remove gwdg",
	"hpcsera context show":   "hpcsera context show gwdg",
	"hpcsera context use":    "hpcsera context use gwdg",
	"hpcsera convert":        "hpcsera convert script.sbatch > job.yaml",
	"hpcsera doctor":         "hpcsera doctor\nhpcsera doctor --context gwdg -o json",
	"hpcsera events":         "hpcsera events j_8f2k4m6p8r0t2v4x6z8a\nhpcsera events --follow -o json",
	"hpcsera explain":        "hpcsera explain j_8f2k4m6p8r0t2v4x6z8a",
	"hpcsera fetch":          "hpcsera fetch j_8f2k4m6p8r0t2v4x6z8a --output-dir results",
	"hpcsera hold":           "hpcsera hold j_8f2k4m6p8r0t2v4x6z8a",
	"hpcsera list":           "hpcsera list --state running\nhpcsera list --label paper=melt -o json",
	"hpcsera logout":         "hpcsera logout",
	"hpcsera logs":           "hpcsera logs -f j_8f2k4m6p8r0t2v4x6z8a",
	"hpcsera project list":   "hpcsera project list",
	"hpcsera release":        "hpcsera release j_8f2k4m6p8r0t2v4x6z8a",
	"hpcsera retry":          "JOB=$(hpcsera retry j_8f2k4m6p8r0t2v4x6z8a)",
	"hpcsera site list":      "hpcsera site list",
	"hpcsera site show":      "hpcsera site show gwdg",
	"hpcsera status":         "hpcsera status j_8f2k4m6p8r0t2v4x6z8a",
	"hpcsera token list":     "hpcsera token list --all",
	"hpcsera wait":           "hpcsera wait j_8f2k4m6p8r0t2v4x6z8a --timeout 2h",
	"hpcsera whoami":         "hpcsera whoami",
}

// addExamples gives cmd and those below it the examples of the table.
func addExamples(cmd *cobra.Command) {
	if text := examples[cmd.CommandPath()]; text != "" {
		cmd.Example = "  " + strings.ReplaceAll(text, "\n", "\n  ")
	}
	for _, c := range cmd.Commands() {
		addExamples(c)
	}
}
