package sqlstore

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// Agent returns an enrolment, also a removed one.
func (r *reader) Agent(id string) (*store.Agent, error) {
	row, err := r.q.Agent(r.ctx, id)
	if err != nil {
		return nil, r.failed(err, "agent %s", id)
	}
	return agentOf(row.Doc, row.LastSeen, row.Removed)
}

func agentOf(doc string, lastSeen int64, removed bool) (*store.Agent, error) {
	a := &store.Agent{}
	if err := json.Unmarshal([]byte(doc), a); err != nil {
		return nil, fmt.Errorf("read agent: %w", err)
	}
	a.LastSeen, a.Removed = momentOrNil(lastSeen), removed
	return a, nil
}

// Agents returns the enrolments that are not removed.
func (r *reader) Agents(user, site string) ([]*store.Agent, error) {
	rows, err := r.q.Agents(r.ctx, gen.AgentsParams{User: user, Site: site})
	if err != nil {
		return nil, r.failed(err, "agents")
	}
	list := make([]*store.Agent, len(rows))
	for i, row := range rows {
		if list[i], err = agentOf(row.Doc, row.LastSeen, row.Removed); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// encodeAgent returns the document. What stands in columns of its own is not
// in it, so that it cannot disagree.
func encodeAgent(a store.Agent) (string, error) {
	a.LastSeen, a.Removed = nil, false
	doc, err := json.Marshal(a)
	return string(doc), err
}

// InsertAgent files an enrolment.
func (t *tx) InsertAgent(a store.Agent) error {
	if err := t.touch(); err != nil {
		return err
	}
	doc, err := encodeAgent(a)
	if err != nil {
		return fmt.Errorf("insert agent %s: %w", a.ID, err)
	}
	var seen int64
	if a.LastSeen != nil {
		seen = micros(*a.LastSeen)
	}
	n, err := t.q.InsertAgent(t.ctx, gen.InsertAgentParams{ID: a.ID, User: a.User, Site: a.Site, Removed: a.Removed, LastSeen: seen, Doc: doc})
	return t.inserted(n, err, "agent", a.ID)
}

// UpdateAgent stores an enrolment, all but LastSeen.
func (t *tx) UpdateAgent(a store.Agent) error {
	if err := t.touch(); err != nil {
		return err
	}
	doc, err := encodeAgent(a)
	if err != nil {
		return fmt.Errorf("update agent %s: %w", a.ID, err)
	}
	n, err := t.q.UpdateAgent(t.ctx, gen.UpdateAgentParams{User: a.User, Site: a.Site, Removed: a.Removed, Doc: doc, ID: a.ID})
	return t.changed(n, err, "update agent %s", a.ID)
}

// SeenAgents stores last-seen times, which never go back. Agents that do not
// exist are passed over.
func (t *tx) SeenAgents(seen map[string]time.Time) error {
	if err := t.touch(); err != nil {
		return err
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(seen)), 200) {
		args := make([]any, 0, 2*len(ids))
		for _, id := range ids {
			args = append(args, id, micros(seen[id]))
		}
		if _, err := t.db.ExecContext(t.ctx, seenText(len(ids)), args...); err != nil {
			return t.failed(err, "last-seen times of %d agents", len(ids))
		}
	}
	return nil
}

// seenText updates n agents at once. Both engines name the columns of VALUES
// column1 and column2; PostgreSQL has to be told their types.
func seenText(n int) string {
	var b strings.Builder
	b.WriteString("UPDATE agents SET last_seen = v.column2 FROM (VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(CAST($" + strconv.Itoa(2*i+1) + " AS TEXT), CAST($" + strconv.Itoa(2*i+2) + " AS BIGINT))")
	}
	b.WriteString(") AS v WHERE agents.id = v.column1 AND agents.last_seen < v.column2")
	return b.String()
}
