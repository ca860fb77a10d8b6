package service

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/topicmap"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// TopicQuestion is a topic or a filter that a device would use.
type TopicQuestion struct {
	Topic             string
	Subject, ClientID string
	Attrs             map[string]string
	Subscribe         bool // instead of publishing
	QoS               byte
	Retain            bool
}

// TopicAnswer is the result for a [TopicQuestion].
type TopicAnswer struct {
	Allowed bool
	Broker  string   // what the broker sees, if it is allowed
	Because []string // what decided, with file, line and key if it was a rule
}

// ExplainTopic says what topics.acl and the map do with a topic, using the code that filters
// sessions. The rules of a grant, which replace topics.acl, are not known here.
func (p *Plan) ExplainTopic(q TopicQuestion) (TopicAnswer, error) {
	var a TopicAnswer
	allowed, err := p.explainRules(q, &a)
	if err != nil || !allowed {
		return a, err
	}
	if p.topics == nil {
		a.Allowed, a.Broker = true, q.Topic
		a.Because = append(a.Because, "there is no topic map")
		return a, nil
	}
	b, err := p.topics.Bind(q.Subject, q.Attrs)
	if err != nil {
		return a, fmt.Errorf("topic map: %w", err)
	}
	var name []byte
	var v topicmap.Verdict
	if q.Subscribe {
		name, v = b.Filter(nil, q.Topic)
	} else {
		name, v = b.Up(nil, []byte(q.Topic))
	}
	a.Allowed, a.Broker = v.Outcome != topicmap.Refused, string(name)
	a.Because = append(a.Because, p.explainMap(v))
	return a, nil
}

// explainRules applies the rules of topics.acl.
func (p *Plan) explainRules(q TopicQuestion, a *TopicAnswer) (allowed bool, err error) {
	if p.acl == nil {
		a.Because = append(a.Because, "there are no rules in topics.acl")
		return true, nil
	}
	ask := func(acl *authz.ACL) (bool, error) {
		b, err := acl.Bind(authz.ACLValues{Subject: q.Subject, ClientID: q.ClientID, Attrs: q.Attrs})
		if err != nil {
			return false, fmt.Errorf("topics.acl: %w", err)
		}
		if q.Subscribe {
			return b.Subscribe(q.Topic, q.QoS), nil
		}
		return b.Publish([]byte(q.Topic), q.QoS, q.Retain), nil
	}
	if allowed, err = ask(p.acl); err != nil {
		return false, err
	}
	because, err := p.decidingRule(q, ask)
	a.Because = append(a.Because, because)
	return allowed, err
}

// decidingRule finds the rule of topics.acl that decides: the first one that makes the
// remaining rules irrelevant.
func (p *Plan) decidingRule(q TopicQuestion, ask func(*authz.ACL) (bool, error)) (string, error) {
	c := *p.Config
	t := &c.Topics
	for n := range len(p.Topics.ACL) + 1 {
		t.ACL = p.Topics.ACL[:n]
		var answers [2]bool
		for i, rest := range []string{"deny", "defer"} {
			t.ACLNoMatch = rest
			acl, err := newACL(&c)
			if err != nil {
				return "", err
			}
			if answers[i], err = ask(acl); err != nil {
				return "", err
			}
		}
		switch {
		case answers[0] != answers[1]:
		case n == 0 && q.Topic == busTopic(&c):
			return "it is the topic of the bus, see replicas.topic, which is closed to devices", nil
		case n == 0:
			return "it is not a valid topic", nil
		case !answers[0] && p.reserved(q):
			return "it begins with $, and no rule of topics.acl begins with the same level", nil
		default:
			verb := "allows it"
			if !answers[0] {
				verb = "denies it"
			}
			return p.Fault(fmt.Sprintf("topics.acl[%d]", n-1), verb).String(), nil
		}
	}
	return p.Fault("topics.acl_no_match", "decides: no rule of topics.acl matches").String(), nil
}

// reserved reports whether a topic begins with $ and no rule is about such topics.
func (p *Plan) reserved(q TopicQuestion) bool {
	topic := q.Topic
	if rest, ok := strings.CutPrefix(topic, "$share/"); ok && q.Subscribe {
		_, topic, _ = strings.Cut(rest, "/")
	}
	level, _, _ := strings.Cut(topic, "/")
	return strings.HasPrefix(level, "$") && !slices.ContainsFunc(p.Topics.ACL, func(r config.ACLRule) bool {
		return slices.ContainsFunc(r.Topics, func(t string) bool {
			first, _, _ := strings.Cut(t, "/")
			return first == level
		})
	})
}

func (p *Plan) explainMap(v topicmap.Verdict) string {
	text := "maps it"
	if v.Outcome == topicmap.Refused {
		text = "refuses it: " + v.Reason.String()
	}
	switch {
	case v.Rule >= 0:
		return p.Fault(ruleKey(v.Rule, len(p.Topics.Map)), text).String()
	case v.Reason == topicmap.Unmapped || v.Outcome == topicmap.Passed:
		return p.Fault("topics.unmapped", "decides: no rule of the map covers it").String()
	}
	return "the map " + text
}
