package hpcsera_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/hpcsera/hpcsera"

// imports says, for every package of ours, which other packages of ours its
// code (tests apart) may import directly, and why no more. "." is the root
// package, "x/..." is x and all below it. The first row that names a package
// holds; a package without a row fails the test, so that a new one is placed
// by decision and not by accident.
var imports = []struct {
	pkg string
	may string
	why string
}{
	{".", "",
		"the words and rules: everybody imports them, so they import nobody and do no I/O"},
	{"api", ".",
		"the contract speaks the root's types, so that there is one Job and not two with a mapping between them"},
	{"approval", ".",
		"what decides whether code runs must be readable on its own"},
	{"client", ". api",
		"an SDK for strangers: it drags in nothing of the server or of the agent"},

	{"internal/store", ".", "a seam: implementers and features meet here and nowhere else"},
	{"internal/store/storetest", ". internal/store", "the suite knows the seam only, or it would test one implementation"},
	{"internal/records", ".", "a seam, as store is: the Auth app's database, which knows nothing of jobs"},
	{"internal/records/recordstest", ". internal/records", "the suite knows the seam only"},
	{"internal/store/sqlstore/sqlitefile", ".", "a database as a file: no tables, and neither store's rules"},
	{"internal/store/sqlstore/auth", ". internal/records internal/store/sqlstore/sqlitefile",
		"the Auth app's own database: it can run where there is no other, so it shares nothing with it but how files are handled"},
	{"internal/store/sqlstore/...", ". internal/store internal/store/sqlstore/... internal/failpoint", "stores know no rights and no HTTP"},
	{"internal/blob", ".", "a seam, as store is"},
	{"internal/blob/blobtest", ". internal/blob", "the suite knows the seam only"},
	{"internal/blob/...", ". internal/blob", "a blob store knows bytes and digests, no projects"},

	{"internal/auth", ". internal/store", "the only permission check asks the store who there is, and nobody else"},
	{"internal/jobs", ". approval internal/store internal/blob internal/auth",
		"a feature: never another feature (it declares the one method it needs), never HTTP"},
	{"internal/code", ". approval internal/store internal/blob internal/auth internal/failpoint",
		"a feature, as jobs is"},
	{"internal/access", ". internal/store internal/auth",
		"a feature, as jobs is"},
	{"internal/inquiry", ". approval internal/store internal/auth internal/blob internal/decision",
		"a feature, as jobs is; what it asks the Auth app and what it hears is decision's"},
	{"internal/audit", ". internal/store internal/auth",
		"a feature, as jobs is"},
	{"internal/backup", ".", "files only: what copies a database, and what makes a copy fit to serve, is handed in"},
	{"internal/admin", ". internal/auth internal/access internal/audit internal/backup internal/operator",
		"the operator's edge: turns the socket into calls of features"},
	{"internal/signin", ". internal/store internal/auth internal/decision",
		"a feature: who a browser is, by the Auth app's word. Users are another feature's"},
	{"internal/signin/signintest", "internal/decision", "an Auth app for tests: it speaks OpenID Connect and knows nothing of ours"},
	{"internal/web", ". approval internal/auth internal/access internal/code internal/signin internal/decision internal/page",
		"the pages' edge: turns forms into calls of features; it sees no store"},
	{"internal/oauth", ". internal/store internal/auth internal/decision internal/peer",
		"a feature, as jobs is; it speaks HTTP since OAuth does, and the Auth app's messages"},
	{"internal/callback", ".",
		"requests to URLs that users registered: one place that keeps them out of our own network"},
	{"internal/httpapi/...", ". api internal/auth internal/jobs internal/code internal/access internal/audit internal/oauth internal/store internal/blob internal/httpapi/...",
		"turns HTTP into calls of features and errors into statuses; it never sees which database there is"},
	{"internal/page", ".", "the frame of all pages: it knows how a page looks and nothing of what is on it"},
	{"internal/page/pagetest", "", "judges HTML, whoever made it"},
	{"internal/session", ". internal/records internal/page internal/peer",
		"a feature: who a person is. It knows no deployment and no request, and never another feature"},
	{"internal/consent", ". approval internal/decision internal/records internal/page internal/session",
		"a feature: what people decide. It stands on session, which tells who they are, and on no store of jobs"},
	{"internal/authapp", ". internal/consent internal/decision internal/session internal/page internal/records internal/operator internal/settings internal/backup",
		"puts the Auth app together, with the settings that are its own, once for both programs that serve it; its database is handed in"},
	{"internal/operator", ".", "a socket and JSON: which operations there are, the server says"},
	{"internal/peer", "", "whose address counts as which, for all who count; what is allowed, they say"},
	{"internal/server", "", "the HTTP chassis: listeners, limits, logs; it would serve any other program as well"},

	{"internal/decision", ".",
		"the messages between the server and the Auth app: both read them with it, so it knows neither"},

	{"internal/scheduler", ".", "a seam, and what exists once above the drivers"},
	{"internal/scheduler/schedulertest", ". internal/scheduler", "the suite knows the seam only"},
	{"internal/scheduler/parsetest", ". internal/scheduler internal/scheduler/schedulertest", "it stands beside the suite, and needs package testing, which the suite may not"},
	{"internal/scheduler/custom", ". internal/scheduler internal/strictyaml", "a driver, of which a file that people write is the one half"},
	{"internal/scheduler/...", ". internal/scheduler", "a driver is pure: argument vectors out, output in"},
	{"internal/agent/trial", ". internal/scheduler internal/scheduler/schedulertest internal/agent",
		"the doctor's own use of the suite: the agent itself does without"},
	{"internal/agent/...", ". approval client internal/scheduler internal/agent/... internal/failpoint internal/strictyaml",
		"the agent trusts no server code; drivers are handed in by its main"},
	{"internal/failpoint", "", "kill tests name a point in the code; the point knows nobody"},

	{"internal/strictyaml", ".", "one reader for every file that a person writes; it knows YAML and the root's errors"},
	{"internal/settings", ". internal/strictyaml", "how server programs are configured; what a setting means is theirs"},
	{"internal/jobfile", ". internal/strictyaml", "job.yaml and batch scripts to a JobSpec, for the command line and for tests"},
	{"internal/cli", ". api approval client internal/jobfile",
		"the command line is a client like any other: what it can do, an SDK user can do"},

	{"cmd/...", "./...", "wiring: only here meet the seams and what implements them"},
	{"e2e/...", "./...", "tests of the whole"},
	{"test/chaoscheck", "", "it judges the product by what others saw, so it shares no word with it"},
	{"test/...", "./...", "the test bed and the tools of the checks"},
}

// foreign says which packages of ours may import directly what is dangerous
// or heavy. The first row that names the import holds.
var foreign = []struct {
	pkg  string // "x/..." is x and all below it
	only string // who may import it; "" is nobody
	why  string
}{
	{"os/exec", "internal/scheduler/... internal/agent/... internal/cli internal/store/storetest cmd/... e2e/... test/...",
		"the server runs no commands: whoever takes it over finds no call to bend"},
	{"plugin", "", "the agent takes no code but what was signed, the server none at all"},
	{"unsafe", "", "no speed here is worth a memory error in the process that holds the tokens"},
	{"math/rand", "", "secrets come from crypto/rand; jitter from math/rand/v2, which needs no seed"},
	{"database/sql/...", "internal/store/sqlstore/... test/... e2e/...", "SQL is written in one place, for both databases"},
	{"modernc.org/sqlite/...", "internal/store/sqlstore/... test/... e2e/...", "as above"},
	{"github.com/jackc/pgx/v5/...", "internal/store/sqlstore/... test/... e2e/...", "as above"},
	{"github.com/spf13/cobra", "internal/cli cmd/... test/commandtest", "commands are the surface of a program, not part of its rules"},
	{"golang.org/x/crypto/argon2", "internal/session", "passwords are hashed in one place, with one cost"},
	{"github.com/coreos/go-oidc/v3/oidc", "internal/session internal/signin e2e/... test/...", "who somebody is comes in by two doors: the Auth app's, and a deployment's to the Auth app"},
	{"golang.org/x/net/html", "internal/page/pagetest e2e/... test/...", "pages are read in tests only; what makes them is html/template"},
	{"github.com/hiddeco/sshsig", "approval", "signatures are made and verified in one place"},
}

// linked says what a program must not contain at all, however it would get
// there.
var linked = []struct {
	program string
	never   string // ours without, others with their full path; "x/..." is x and all below it
	why     string
}{
	{"cmd/hpcsera-agent", "internal/store/... internal/blob/... internal/httpapi/... internal/server internal/auth internal/jobs internal/code internal/access internal/audit internal/inquiry internal/oauth internal/callback internal/admin internal/signin internal/web internal/cli",
		"the agent runs with a user's rights on a login node: what is not in the file cannot be abused there"},
	{"cmd/hpcsera-agent", "database/sql modernc.org/sqlite github.com/jackc/pgx/v5",
		"its memory is a journal of plain lines that a person can read after a crash"},
	{"cmd/hpcsera", "internal/store/... internal/blob/... internal/scheduler/... internal/agent/... internal/httpapi/... internal/server internal/auth internal/jobs internal/code internal/access internal/audit internal/inquiry internal/oauth internal/callback internal/admin internal/signin internal/web database/sql",
		"the command line knows only the API, so whatever it does another client can do"},
	{"cmd/hpcserad", "testing internal/store/storetest internal/blob/blobtest internal/records/recordstest internal/page/pagetest internal/signin/signintest", "suites and what they start stay in tests"},
	{"cmd/hpcsera-auth", "internal/store internal/store/storetest internal/store/sqlstore/main internal/blob/... internal/httpapi/... internal/auth internal/jobs internal/code internal/admin internal/cli internal/agent/... internal/scheduler/...",
		"who decides has no means to run anything, and no data of those who ask"},
	{"cmd/hpcsera-auth", "testing internal/records/recordstest internal/page/pagetest", "suites and what they start stay in tests"},
	{"cmd/hpcsera-agent", "testing internal/scheduler/pbs/pbsfake internal/scheduler/lsf/lsffake internal/agent/container/registrytest", "package testing and fakes stay in tests; the suite of batch systems is the doctor's too"},
	{"cmd/hpcserad", "internal/agent/... internal/scheduler/... internal/cli",
		"the server states what should be; it has no means to run anything"},
}

// emptyNames are package names that tell nothing, so everything ends there.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "core", "base", "misc", "shared", "lib"}

type listed struct {
	ImportPath string
	Dir        string
	Name       string
	Doc        string
	Standard   bool
	GoFiles    []string
	Imports    []string
}

func TestImportsFollowTheTable(t *testing.T) {
	for _, p := range packages(t, "./...") {
		from := ours(p.ImportPath)
		at := slices.IndexFunc(imports, func(r struct{ pkg, may, why string }) bool { return matches(r.pkg, from) })
		if at < 0 {
			t.Errorf("package %s has no row in the table of imports: decide what it may import, and why", from)
			continue
		}
		for _, imported := range p.Imports {
			if to := ours(imported); to != "" && !anyMatches(imports[at].may, to) {
				t.Errorf("%s imports %s, may import %q: %s", from, to, imports[at].may, imports[at].why)
			}
		}
	}
}

func TestDangerousPackagesAreImportedWhereTheTableSaysOnly(t *testing.T) {
	for _, p := range packages(t, "./...") {
		from := ours(p.ImportPath)
		for _, imported := range p.Imports {
			for _, rule := range foreign {
				if matches(rule.pkg, imported) && !anyMatches(rule.only, from) {
					t.Errorf("%s imports %s, only %q may: %s", from, imported, rule.only, rule.why)
				}
			}
		}
	}
}

func TestProgramsLinkNothingTheyMustNotContain(t *testing.T) {
	for _, rule := range linked {
		deps := packages(t, "-deps", "./"+rule.program)
		if len(deps) < 2 {
			t.Errorf("%s: go list -deps names %d packages, want all it is linked from", rule.program, len(deps))
		}
		for _, p := range deps {
			name := p.ImportPath
			if own := ours(name); own != "" {
				name = own
			}
			if anyMatches(rule.never, name) {
				t.Errorf("%s links %s: %s", rule.program, name, rule.why)
			}
		}
	}
}

func TestEveryPackageHasATellingNameAndAComment(t *testing.T) {
	for _, p := range packages(t, "./...") {
		if len(p.GoFiles) == 0 {
			continue // tests only
		}
		from := ours(p.ImportPath)
		if slices.Contains(emptyNames, p.Name) || slices.Contains(emptyNames, path.Base(from)) {
			t.Errorf("%s is called %s: a name that tells nothing collects everything", from, p.Name)
		}
		if p.Doc == "" && !generated(t, p) {
			t.Errorf("%s has no package comment: say what it is for, who calls it, what it promises", from)
		}
	}
}

func TestNothingHappensByBeingImported(t *testing.T) {
	for _, p := range packages(t, "./...") {
		for _, name := range p.GoFiles {
			f := parse(t, p, name)
			if ast.IsGenerated(f) {
				continue
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s/%s has an init function: wiring is a visible list in cmd", ours(p.ImportPath), name)
				}
			}
		}
	}
}

func parse(t *testing.T, p listed, name string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), p.Dir+"/"+name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%s: %v", ours(p.ImportPath), err)
	}
	return f
}

// generated reports whether no file of the package was written by hand.
func generated(t *testing.T, p listed) bool {
	t.Helper()
	return !slices.ContainsFunc(p.GoFiles, func(name string) bool { return !ast.IsGenerated(parse(t, p, name)) })
}

// packages runs go list, the same that builds the programs.
func packages(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Dir,Name,Doc,Standard,GoFiles,Imports"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the programs are built
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	var list []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatalf("reading go list's answer: %v", err)
		}
		list = append(list, p)
	}
}

// ours returns a package's path inside the module, "." for its root and ""
// for others' packages.
func ours(importPath string) string {
	if importPath == module {
		return "."
	}
	rest, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	return rest
}

func matches(pattern, pkg string) bool {
	if pattern == "./..." {
		return true
	}
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	}
	return pkg == pattern
}

func anyMatches(patterns, pkg string) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(p string) bool { return matches(p, pkg) })
}
