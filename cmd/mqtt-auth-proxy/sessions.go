package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// sessions is the sessions command. It asks the admin side of the proxy that the
// configuration describes.
type sessions struct {
	*program
	subject, clientID string // flags
	limit             int    // flag
	asJSON            bool   // flag
}

func (p *program) sessionsCommand() *cobra.Command {
	s := &sessions{program: p}
	c := &cobra.Command{
		Use:   "sessions",
		Short: "List and end live sessions of a running proxy",
		Long: `List and end live sessions of a running proxy, through its admin side. Address and
token of the admin side are those of --config and --data.`,
		Example: `  mqtt-auth-proxy sessions list --subject pump-7
  mqtt-auth-proxy sessions kick --client-id pump-7`,
	}
	c.AddCommand(s.listCommand(), s.kickCommand())
	for _, sub := range c.Commands() {
		p.configFlags(sub)
		sub.Flags().StringVar(&s.subject, "subject", "", "only sessions of this `DEVICE`")
		sub.Flags().StringVar(&s.clientID, "client-id", "", "only sessions with this client `ID`")
		p.completeSubject(sub)
	}
	return c
}

func (s *sessions) listCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List live sessions",
		Example: `  mqtt-auth-proxy sessions list --limit 1000
  mqtt-auth-proxy sessions list --subject pump-7 --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return s.list(c.Context()) },
	}
	c.Flags().IntVar(&s.limit, "limit", 100, "list at most `N` sessions, 1 to 10000")
	c.Flags().BoolVar(&s.asJSON, "json", false, "print JSON")
	return c
}

func (s *sessions) kickCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kick [ID...]",
		Short: "End sessions by their id, device or client id",
		Long: `End sessions by their id, device or client id. A device whose token
is still valid can connect again; to prevent that, revoke its token.`,
		Example: `  mqtt-auth-proxy sessions kick 4711
  mqtt-auth-proxy sessions kick --subject pump-7`,
		RunE: func(c *cobra.Command, ids []string) error { return s.kick(c.Context(), ids) },
	}
}

func (s *sessions) list(ctx context.Context) error {
	found, err := s.find(ctx, s.limit)
	if err != nil {
		return err
	}
	if s.asJSON {
		return s.printJSON(found)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSUBJECT\tCLIENT ID\tADDRESS\tLISTENER\tMQTT\tTLS\tSINCE\tUP\tDOWN\tDENIED\tHOLDS\tIDLE")
	for _, v := range found.Sessions {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", v.ID, printable(v.Subject), printable(v.ClientID), v.Address, v.Listener, v.Version, v.TLS, v.Since.Format(time.RFC3339), v.BytesUp, v.BytesDown, v.Denied, v.Holds, idle(v.IdleSeconds))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if found.Total > len(found.Sessions) {
		fmt.Fprintf(s.stderr, "%d more; --limit shows more\n", found.Total-len(found.Sessions))
	}
	return nil
}

// idle returns the time for which a session has sent nothing, as it is printed.
func idle(seconds *int64) string {
	if seconds == nil {
		return "-"
	}
	return (time.Duration(*seconds) * time.Second).String()
}

// printable returns a text from a device or a file: unchanged if a terminal can show it, and
// otherwise quoted.
func printable(text string) string {
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}

// kick ends the sessions with the ids, or those that the flags select.
func (s *sessions) kick(ctx context.Context, ids []string) error {
	if byFlag := s.subject != "" || s.clientID != ""; byFlag == (len(ids) > 0) {
		return errors.New("name the sessions to end: by ID, or with --subject or --client-id")
	}
	if len(ids) == 0 {
		found, err := s.find(ctx, 10_000)
		if err != nil {
			return err
		}
		for _, v := range found.Sessions {
			ids = append(ids, fmt.Sprint(v.ID))
		}
	}
	for _, id := range ids {
		if err := s.call(ctx, http.MethodDelete, "/v1/sessions/"+url.PathEscape(id), nil); err != nil {
			return fmt.Errorf("session %s: %w", id, err)
		}
	}
	_, err := fmt.Fprintf(s.stdout, "ended: %d\n", len(ids))
	return err
}

// find returns the sessions that the flags select.
func (s *sessions) find(ctx context.Context, limit int) (found admin.Sessions, err error) {
	q := url.Values{"limit": {fmt.Sprint(limit)}}
	if s.subject != "" {
		q.Set("subject", s.subject)
	}
	if s.clientID != "" {
		q.Set("client_id", s.clientID)
	}
	err = s.call(ctx, http.MethodGet, "/v1/sessions?"+q.Encode(), &found)
	return found, err
}

// call asks the admin side and decodes the answer into the value at into, which is nil if
// there is no content to expect.
func (p *program) call(ctx context.Context, method, path string, into any) error {
	return p.send(ctx, method, path, nil, into)
}

// send is call with a body, which may be nil.
func (p *program) send(ctx context.Context, method, path string, body io.Reader, into any) error {
	c, err := p.loadConfig()
	if err != nil {
		return err
	}
	if name, ok := config.Inherited(c.Admin.Address); ok {
		return fmt.Errorf("the admin side listens on socket %q of systemd: say where that is with MQTT_AUTH_PROXY_ADMIN_ADDRESS", name)
	}
	if c.Admin.Address == "" {
		return errors.New("the config has no admin side: admin.address is empty")
	}
	token, err := adminToken(c, method)
	if err != nil {
		return fmt.Errorf("admin token: %w; name the configuration and the data directory of the running proxy with --config and --data", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, scheme, err := adminClient(c)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, scheme+"://"+reachable(c.Admin.Address)+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("no answer from the admin side at %s: %w; is the proxy running?", c.Admin.Address, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	return readAnswer(resp, into)
}

// adminToken returns the token for a request to the admin side. A user who may not read the file of
// the role operate can still use that of the role read for requests that change nothing.
func adminToken(c *config.Config, method string) (string, error) {
	token, _, err := files.Read(c.Admin.TokenFile, admin.MaxSecret)
	if err != nil && method == http.MethodGet && c.Admin.ReadTokenFile != "" {
		if other, _, readErr := files.Read(c.Admin.ReadTokenFile, admin.MaxSecret); readErr == nil {
			token, err = other, nil
		}
	}
	return strings.TrimSpace(string(token)), err
}

// readAnswer decodes an answer. If it reports a problem, that is the error.
func readAnswer(resp *http.Response, into any) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		var problem struct{ Detail string }
		if json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
			return fmt.Errorf("the admin side answered %s", resp.Status)
		}
		return errors.New(problem.Detail)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// reachable returns the address at which a listener can be reached. A listener on all
// addresses is reached at the loopback address.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
