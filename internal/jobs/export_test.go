package jobs

// Cursor makes an authentic cursor for tests.
func (s *Service) Cursor(agent string, epoch, seq int64) string {
	return s.cursors.make(agent, epoch, seq)
}
