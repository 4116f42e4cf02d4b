package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
)

// bodyKind says how the body of an operation is read.
type bodyKind uint8

const (
	noBody    bodyKind = iota
	jsonBody           // read whole, checked against the contract
	byteBody           // bytes of a user: passed on unread
	ownedBody          // JSON that the handler itself reads strictly: POST /jobs
)

// operation is one operation of the contract, prepared for use.
type operation struct {
	id     string
	method string
	path   string
	role   role
	extra  map[string]hpcsera.Roles // by condition: the part of a rule's name
	body   bodyKind
	schema *openapi3.Schema // of a JSON body
	strict func() any       // makes what a JSON body decodes into, where names given twice matter
	query  []string         // the names of the query's parameters
	params []string         // and of the path's
	route  *routers.Route

	parameters []*openapi3.Parameter
}

// role is who may call an operation, as x-role says it.
type role struct {
	kind string // roles, any, agent, person, none
	set  hpcsera.Roles
}

// strictTypes are the bodies in which no name may stand twice: what is kept,
// digested or changed by hand. Agents' messages are made by our own programs
// and come often.
var strictTypes = map[string]func() any{
	"postCode":     func() any { return new(hpcsera.Manifest) },
	"postApproval": func() any { return new(hpcsera.ApprovalRequest) },
	"patchJob":     func() any { return new(hpcsera.JobPatch) },
	"putJobStatus": func() any { return new(hpcsera.JobStatus) },
	"requestToken": func() any { return new(hpcsera.TokenWish) },
}

// loadOperations reads the contract and warms its schemas, so that the first
// request is as quick as the others. The key is METHOD PATH.
func loadOperations() (map[string]*operation, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.Contract())
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background(), openapi3.DisableExamplesValidation()); err != nil {
		return nil, err
	}
	operations := map[string]*operation{}
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			op, err := newOperation(doc, path, method, item, o)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", method, path, err)
			}
			operations[method+" "+path] = op
		}
	}
	return operations, nil
}

func newOperation(doc *openapi3.T, path, method string, item *openapi3.PathItem, o *openapi3.Operation) (*operation, error) {
	op := &operation{
		id: o.OperationID, method: method, path: path, strict: strictTypes[o.OperationID],
		route: &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: o},
	}
	for _, p := range slices.Concat(item.Parameters, o.Parameters) {
		op.parameters = append(op.parameters, p.Value)
		switch p.Value.In {
		case openapi3.ParameterInQuery:
			op.query = append(op.query, p.Value.Name)
		case openapi3.ParameterInPath:
			op.params = append(op.params, p.Value.Name)
		}
		warm(p.Value.Schema.Value)
	}
	if o.RequestBody != nil {
		op.body = byteBody
		if media := o.RequestBody.Value.Content["application/json"]; media != nil {
			op.body, op.schema = jsonBody, media.Schema.Value
			warm(op.schema)
		}
	}
	if o.OperationID == "submitJobs" {
		op.body = ownedBody
	}
	var err error
	if op.role, err = readRole(o.Extensions["x-role"]); err != nil {
		return nil, err
	}
	op.extra, err = readExtra(o.Extensions["x-role-extra"])
	return op, err
}

// warm compiles the patterns of a schema by validating something against it.
func warm(s *openapi3.Schema) {
	for _, v := range []any{"", map[string]any{}, []any{}} {
		_ = s.VisitJSON(v)
	}
}

func readRole(extension any) (role, error) {
	switch v := extension.(type) {
	case string:
		if slices.Contains([]string{"any", "agent", "person", "none"}, v) {
			return role{kind: v}, nil
		}
	case []any:
		set, err := readRoles(v)
		return role{kind: "roles", set: set}, err
	}
	return role{}, fmt.Errorf("x-role is %v; it must be a list of role numbers, any, agent, person or none", extension)
}

func readRoles(list []any) (hpcsera.Roles, error) {
	var set hpcsera.Roles
	for _, n := range list {
		number, ok := n.(float64)
		if !ok || number < 1 || number > 8 {
			return 0, fmt.Errorf("%v is not a role's number", n)
		}
		set |= hpcsera.RolesOf(hpcsera.Role(number))
	}
	return set, nil
}

func readExtra(extension any) (map[string]hpcsera.Roles, error) {
	m, ok := extension.(map[string]any)
	if !ok && extension != nil {
		return nil, fmt.Errorf("x-role-extra is %v; it must name conditions with their roles", extension)
	}
	extra := map[string]hpcsera.Roles{}
	for condition, list := range m {
		l, _ := list.([]any)
		set, err := readRoles(l)
		if err != nil || len(l) == 0 {
			return nil, fmt.Errorf("x-role-extra %s: %v is not a list of role numbers", condition, list)
		}
		extra[condition] = set
	}
	return extra, nil
}

// streamed are the paths to which bytes are PUT.
var streamed = regexp.MustCompile(`^/api/v1/(blobs/[^/]+|jobs/[^/]+/logs/[^/]+)$`)

// Streams reports whether a request's body is bytes that pass unread, so that
// the chassis does not limit them.
func Streams(r *http.Request) bool {
	return r.Method == http.MethodPut && streamed.MatchString(r.URL.Path)
}
