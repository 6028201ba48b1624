package server

func (s *Server) countPut(topic string, messages, bytes int)                {}
func (s *Server) countGet(group, topic string, messages, bytes int)         {}
func (s *Server) countSendBack(group, topic string)                         {}
func (s *Server) pendingReset(group, topic string, queue int) (int64, bool) { return 0, false }
func (s *Server) clearReset(group, topic string, queue int)                 {}
