package jobs

// Cursor makes an authentic cursor for tests.
func (s *Service) Cursor(agent string, epoch, seq int64) string {
	return s.CursorAt(agent, epoch, seq, 0)
}

// CursorAt makes one that was given in a term.
func (s *Service) CursorAt(agent string, epoch, seq, term int64) string {
	return s.cursors.make(agent, position{epoch: epoch, seq: seq, last: seq, term: term})
}
