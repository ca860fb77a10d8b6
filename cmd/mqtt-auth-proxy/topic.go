package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/service"
)

// topic is the topic command and its flags.
type topic struct {
	*program
	question           service.TopicQuestion
	attrs              []string
	publish, subscribe bool
	qos                int
}

func (p *program) topicCommand() *cobra.Command {
	t := &topic{program: p}
	c := &cobra.Command{
		Use:   "topic TOPIC|FILTER",
		Short: "Explain how topic rules and topic map treat a topic",
		Long: `Explain how topics.acl and the topic map of the configuration treat a topic that a
device uses, or a filter that it subscribes to, and which rule decides. A token may
have topic rules of its own in place of topics.acl; this command does not know them.`,
		Example: `  mqtt-auth-proxy topic v1/devices/me/telemetry --subject pump-7
  mqtt-auth-proxy topic 'plant/+/state' --subject pump-7 --subscribe`,
		Args: one("topic"),
		RunE: func(_ *cobra.Command, args []string) error { return t.explain(args[0]) },
	}
	p.configFlags(c)
	c.Flags().StringVar(&t.question.Subject, "subject", "", "the `DEVICE`")
	c.Flags().StringVar(&t.question.ClientID, "client-id", "", "its client `ID`, for rules with ${client_id}")
	c.Flags().StringArrayVar(&t.attrs, "attr", nil, "an attribute of its token as `NAME=VALUE`; may be repeated")
	c.Flags().BoolVar(&t.publish, "publish", false, "show only what happens to a message")
	c.Flags().BoolVar(&t.subscribe, "subscribe", false, "show only what happens to a subscription")
	c.Flags().IntVar(&t.qos, "qos", 0, "QoS of the message, or the QoS that is requested for the subscription: 0, 1 or 2")
	c.Flags().BoolVar(&t.question.Retain, "retain", false, "the message has the retain flag")
	p.completeSubject(c)
	completeChoices(c, "qos", "0", "1", "2")
	_ = c.MarkFlagRequired("subject")
	c.MarkFlagsMutuallyExclusive("publish", "subscribe")
	return c
}

func (t *topic) explain(text string) error {
	if t.qos < 0 || t.qos > 2 {
		return fmt.Errorf("--qos is %d; it must be 0, 1 or 2", t.qos)
	}
	if t.publish && !authz.ValidTopic(text) {
		return fmt.Errorf("%q is not a topic that a message can have, such as v1/x, without + and #", text)
	}
	attrs, err := parseAttrs(t.attrs)
	if err != nil {
		return err
	}
	t.question.Topic, t.question.QoS, t.question.Attrs = text, byte(t.qos), attrs
	plan, err := t.loadPlan()
	if err != nil {
		return err
	}
	defer plan.Close()
	if !t.subscribe && (t.publish || authz.ValidTopic(text)) {
		if err := t.print(plan, "publish", false); err != nil {
			return err
		}
	}
	if !t.publish {
		return t.print(plan, "subscribe", true)
	}
	return nil
}

func (t *topic) print(plan *service.Plan, what string, subscribe bool) error {
	t.question.Subscribe = subscribe
	a, err := plan.ExplainTopic(t.question)
	if err != nil {
		return err
	}
	outcome := "refused"
	if a.Allowed {
		outcome = "allowed, the broker sees " + a.Broker
	}
	_, err = fmt.Fprintf(t.stdout, "%s: %s\n  %s\n", what, outcome, strings.Join(a.Because, "\n  "))
	return err
}

func parseAttrs(pairs []string) (map[string]string, error) {
	attrs := make(map[string]string, len(pairs))
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--attr %s is not NAME=VALUE", p)
		}
		attrs[name] = value
	}
	return attrs, nil
}
