package httpapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
	"github.com/hpcsera/hpcsera/internal/auth"
)

func TestTheContractAndThePermissionTableSayTheSame(t *testing.T) {
	operations, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	rules := map[string]auth.Rule{}
	for _, r := range auth.Rules() {
		rules[string(r.Action)] = r
	}
	for _, op := range operations {
		if op.role.kind == "none" {
			if _, ok := rules[op.id]; ok {
				t.Errorf("%s answers everybody, but has a row in the permission table", op.id)
			}
			continue
		}
		rule, ok := rules[op.id]
		if !ok {
			t.Errorf("%s has no row in the permission table (internal/auth)", op.id)
			continue
		}
		delete(rules, op.id)
		switch op.role.kind {
		case "any":
			if !rule.AnyToken {
				t.Errorf("%s: x-role is any, the table wants %v", op.id, rule.Roles())
			}
		case "agent":
			if rule.Clients != 0 || rule.Agents == 0 || rule.AnyToken {
				t.Errorf("%s: x-role is agent, the table lets in clients with %v and agents with %v", op.id, rule.Clients, rule.Agents)
			}
		case "person":
			if !rule.InPerson() || rule.Roles() != 0 || rule.AnyToken {
				t.Errorf("%s: x-role is person, the table lets in persons: %v, and roles %v", op.id, rule.InPerson(), rule.Roles())
			}
		case "roles":
			if rule.AnyToken || rule.Roles() != op.role.set {
				t.Errorf("%s: x-role is %v, the table wants %v", op.id, op.role.set, rule.Roles())
			}
		}
		for condition, set := range op.extra {
			extra := op.id + ":" + condition
			if rules[extra].Roles() != set {
				t.Errorf("%s: x-role-extra is %v, the table wants %v", extra, set, rules[extra].Roles())
			}
			delete(rules, extra)
		}
	}
	for action, rule := range rules {
		if rule.InPerson() {
			continue // on the pages
		}
		t.Errorf("%s has a row in the permission table and no place in the contract", action)
	}
}

// codes reads the closed list of error codes from the root package's source.
func codes(t *testing.T) []hpcsera.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []hpcsera.Code
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, hpcsera.Code(text))
		}
		return true
	})
	if len(list) < 20 {
		t.Fatalf("found %d error codes in error.go, want all", len(list))
	}
	return list
}

func TestEveryErrorCodeHasItsStatusAndItsPlaceInTheContract(t *testing.T) {
	known := map[any]bool{}
	operations, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	doc := operations["GET /api/v1/jobs"].route.Spec
	for _, v := range doc.Components.Schemas["ProblemCode"].Value.Enum {
		known[v] = true
	}
	for _, code := range codes(t) {
		if advice[code] == "" {
			t.Errorf("nobody is told what to do about %s", code)
		}
		if statuses[code] == 0 {
			t.Errorf("code %s has no HTTP status", code)
		}
		if !known[string(code)] {
			t.Errorf("code %s is not in the contract's ProblemCode", code)
		}
		delete(known, string(code))
	}
	for code := range known {
		t.Errorf("the contract's ProblemCode has %v, which no error has", code)
	}
}

func TestEveryProblemFitsItsSchema(t *testing.T) {
	operations, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	schema := operations["GET /api/v1/jobs"].route.Spec.Components.Schemas["Problem"].Value
	for _, e := range []*hpcsera.Error{
		hpcsera.Errorf(hpcsera.NotFound, "there is no job."),
		hpcsera.Errorf(hpcsera.InvalidField, "no.").At("site").Hint("Leave it out."),
		{Code: hpcsera.UnknownSite, Message: "m", Field: "site", Index: 3},
		{Code: hpcsera.WrongOffset, Message: "m", Index: -1},
		{Code: hpcsera.MissingBlobs, Message: "m", Index: -1, Missing: []string{hpcsera.DigestOf(nil)}},
	} {
		body := describe(e, statuses[e.Code], "5f2d")
		if err := schema.VisitJSON(decoded(t, body)); err != nil {
			t.Errorf("%s: %v\ngot %s", e.Code, err, body)
		}
	}
	body := string(describe(&hpcsera.Error{Code: hpcsera.UnknownSite, Message: "m", Field: "site", Index: 3}, 422, "r"))
	if want := `"field":"jobs[3].site"`; !strings.Contains(body, want) {
		t.Errorf("one job of many: got %s, want %s", body, want)
	}
	body = string(describe(&hpcsera.Error{Code: hpcsera.WrongOffset, Message: "m", Index: -1}, 409, "r"))
	if want := `"expected":0`; !strings.Contains(body, want) {
		t.Errorf("an offset of 0: got %s, want %s", body, want)
	}
}

func TestUploadsAreRecognisedByTheirPath(t *testing.T) {
	operations, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	for key, op := range operations {
		path := strings.NewReplacer("{digest}", "sha256:0", "{id}", "j_0", "{stream}", "stdout", "{path}", "a", "{name}", "n").Replace(op.path)
		r, err := http.NewRequest(op.method, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := Streams(r), op.body == byteBody; got != want {
			t.Errorf("%s: exempt from the body limit: got %v, want %v", key, got, want)
		}
	}
	if len(api.Contract()) == 0 {
		t.Error("the contract is empty")
	}
}
