package sqlstore

import (
	"strconv"
	"strings"
)

// insert writes many rows with few statements. conflict is what the statement
// says about rows that exist. It returns how many rows were written.
func (t *tx) insert(table, columns, conflict string, rows [][]any) (int64, error) {
	width := strings.Count(columns, ",") + 1
	var written int64
	args := make([]any, 0, width*min(len(rows), chunks[0]))
	for len(rows) > 0 {
		n := chunks[len(chunks)-1]
		for _, size := range chunks {
			if len(rows) >= size {
				n = size
				break
			}
		}
		args = args[:0]
		for _, row := range rows[:n] {
			args = append(args, row...)
		}
		result, err := t.db.ExecContext(t.ctx, t.dialect.insertText(table, columns, conflict, n, width), args...)
		if err != nil {
			return written, err
		}
		count, err := result.RowsAffected()
		if err != nil {
			return written, err
		}
		written += count
		rows = rows[n:]
	}
	return written, nil
}

// chunks are the row counts statements are made for: few, because each is
// prepared and kept.
var chunks = [...]int{64, 8, 1}

func (d *dialect) insertText(table, columns, conflict string, rows, width int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO " + table + " (" + columns + ") VALUES ")
	for n := range rows * width {
		switch {
		case n == 0:
			b.WriteString("(")
		case n%width == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		if d.anonymous {
			b.WriteString("?")
		} else {
			b.WriteString("$" + strconv.Itoa(n+1))
		}
	}
	b.WriteString(") " + conflict)
	return b.String()
}

// where builds the conditions and the order of a list. Values go into
// arguments only.
type where struct {
	conditions []string
	args       []any
	order      string
}

// arg adds an argument and returns its placeholder.
func (w *where) arg(value any) string {
	w.args = append(w.args, value)
	return "$" + strconv.Itoa(len(w.args))
}

// is adds a condition that ends where its argument stands.
func (w *where) is(condition string, value any) {
	w.conditions = append(w.conditions, condition+" "+w.arg(value))
}

// in adds the condition that a column has one of the values; none stands for
// all.
func (w *where) in(column string, values []string) {
	if len(values) == 0 {
		return
	}
	places := make([]string, len(values))
	for i, v := range values {
		places[i] = w.arg(v)
	}
	w.conditions = append(w.conditions, column+" IN ("+strings.Join(places, ", ")+")")
}

// limit returns the clause that ends the statement. SQLite makes a new plan
// whenever the placeholder of a bare LIMIT gets its argument, but not of a sum.
func (w *where) limit(n int64) string { return " LIMIT " + w.arg(n) + " + 0" }

// String returns the clauses.
func (w *where) String() string {
	clauses := " ORDER BY " + w.order
	if len(w.conditions) > 0 {
		clauses = " WHERE " + strings.Join(w.conditions, " AND ") + clauses
	}
	return clauses
}
