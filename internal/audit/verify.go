package audit

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// pageSize is how many lines are read at once.
const pageSize = 1000

// Verification asks to check the log. Head is one that went to syslog before,
// as NUMBER:HASH, as the signature behind it, or as the whole line, or "".
type Verification struct {
	Head string `json:"head,omitempty"`
}

// Verified says that all lines are as they were written.
type Verified struct {
	Lines int64  `json:"lines"`
	Head  string `json:"head"` // of now
	// Signed says that the head that was kept had our signature.
	Signed bool `json:"signed,omitempty"`
}

// Verify checks the whole chain, and that it holds the head that somebody kept
// elsewhere. The error is conflict and says which line is wrong.
func (l *Log) Verify(ctx context.Context, by *auth.Principal, r Verification) (Verified, error) {
	if err := auth.Allow(by, auth.ManageService, auth.Target{}); err != nil {
		return Verified{}, err
	}
	kept, signed, err := l.kept(r.Head)
	if err != nil {
		return Verified{}, err
	}
	var head hpcsera.AuditLine
	err = l.cfg.Store.Read(ctx, func(rd store.Reader) error {
		for {
			lines, err := rd.Audit(store.AuditFilter{After: head.Number, Limit: pageSize})
			if err != nil || len(lines) == 0 {
				return err
			}
			// A kept head may stand in the middle of a page.
			if i := kept.Number - head.Number - 1; kept.Number > 0 && i >= 0 && i < int64(len(lines)) && lines[i].Hash != kept.Hash {
				return hpcsera.Errorf(hpcsera.Conflict, "line %d is not the one whose head was kept: the log was made anew since.", kept.Number).At("head").
					Hint("Is it a head of this log, not of the Auth app's? Then compare with a backup from that time.")
			}
			if head, err = store.VerifyChain(head, lines); err != nil {
				return err
			}
		}
	})
	if err == nil && kept.Number > head.Number {
		err = hpcsera.Errorf(hpcsera.Conflict, "the log ends at line %d; the head that was kept is line %d: lines are missing.", head.Number, kept.Number).
			At("head").Hint("Was a backup restored? Compare with one from that time.")
	}
	if err != nil {
		return Verified{}, store.Failed("verify the audit log", err)
	}
	return Verified{Lines: head.Number, Head: store.HeadText(head), Signed: signed}, nil
}

// kept reads a head that was kept elsewhere; "" is none.
func (l *Log) kept(text string) (line hpcsera.AuditLine, signed bool, err error) {
	if text == "" {
		return line, false, nil
	}
	if l.cfg.Heads != nil {
		if text, signed, err = l.cfg.Heads.Read(text); err != nil {
			return line, false, err
		}
	}
	line, err = store.ParseHead(text)
	return line, signed, err
}

// Pages asks for lines after a number, oldest first.
type Pages struct {
	After int64 `json:"after,omitempty"`
}

// Export returns up to 1000 lines, all users'. The next page is after the last
// one's number.
func (l *Log) Export(ctx context.Context, by *auth.Principal, r Pages) ([]hpcsera.AuditLine, error) {
	if err := auth.Allow(by, auth.ManageService, auth.Target{}); err != nil {
		return nil, err
	}
	return l.read(ctx, store.AuditFilter{After: r.After, Limit: pageSize})
}

func (l *Log) read(ctx context.Context, f store.AuditFilter) (lines []hpcsera.AuditLine, err error) {
	err = l.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		lines, err = r.Audit(f)
		return err
	})
	return lines, store.Failed("read the audit log", err)
}
