package server

import (
	"fmt"
	"sync"

	"github.com/sluicemq/sluice/broker/remoting"
)

// askedAtOnce bounds the clients of one group that are asked at the same time.
const askedAtOnce = 16

// getConsumerStatus serves INVOKE_BROKER_TO_GET_CONSUMER_STATUS (223): asks the
// members of a group, or the one that clientAddr names by its client id, how
// far they are (221).
func getConsumerStatus(s *Server, _ *conn, req, resp *remoting.Command) error {
	topic, group, err := readNames("get consumer status", "topic", "group", req)
	if err != nil {
		return err
	}
	if _, err := s.known(topic); err != nil {
		return err
	}
	v, online := s.clients.view(group)
	if !online {
		return refuse(remoting.ResConsumerNotOnline, "no consumer of group %.255s is online", group)
	}
	cmd := &remoting.Command{Code: remoting.ReqGetConsumerStatusFromClient}
	cmd.Fields.Add("topic", topic)
	cmd.Fields.Add("group", group)
	one := req.Fields.Get("clientAddr")
	var asked []client
	for _, m := range v.clients {
		if one != "" && one != m.id && one != m.conn.remote {
			continue
		}
		if m.version < versionResets {
			return refuse(remoting.ResSystemError, "client %s is of version %d, which does not know this request", m.id, m.version)
		}
		asked = append(asked, m)
	}
	status := remoting.ConsumerStatus{Clients: make([]remoting.ClientPositions, len(asked))}
	errs := make([]error, len(asked))
	var wg sync.WaitGroup
	turn := make(chan struct{}, askedAtOnce)
	for i, m := range asked {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			status.Clients[i], errs[i] = s.statusOf(m, cmd)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	resp.Body = status.AppendTo(nil)
	return nil
}

// statusOf asks one client how far it is.
func (s *Server) statusOf(m client, cmd *remoting.Command) (remoting.ClientPositions, error) {
	p := remoting.ClientPositions{ClientID: m.id}
	answer, err := s.ask(m, statusWait, cmd)
	if err != nil {
		return p, err
	}
	if answer.Code != remoting.ResSuccess {
		return p, fmt.Errorf("ask client %s how far it is: %s (code %d)", m.id, answer.Remark, answer.Code)
	}
	status, err := remoting.DecodeConsumerStatus(answer.Body)
	if err != nil {
		return p, fmt.Errorf("ask client %s how far it is: %w", m.id, err)
	}
	p.Queues = status.Queues
	return p, nil
}
