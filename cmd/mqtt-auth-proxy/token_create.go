package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/files"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenfile"
)

// creation is the token create command and its flags.
type creation struct {
	*tokens
	options tokenfile.CreateOptions

	expires, notBefore, token string
	passwordFile, acl         string
	upstreamPasswordFile      string
	attrs, limits             []string
	fromFile                  string
	count                     int
	another                   bool
}

// maxCount is the largest number of tokens that one command makes.
const maxCount = 1_000_000

func (t *tokens) createCommand() *cobra.Command {
	n := &creation{tokens: t}
	c := &cobra.Command{
		Use:   "create NAME...",
		Short: "Create a token for each device and print it, once",
		Long: `Create a token for each device and print it, once. For several devices a line has
the name, a tab and the token. Either all tokens are created or, after an error, none.

With --username and --password-file the device uses these instead of a token. Only a
hash of the password is stored, and the id of the entry is printed.`,
		Example: `  mqtt-auth-proxy token create pump-7
  mqtt-auth-proxy token create pump-7 --expires 720h --client-id pump-7 --cidr 203.0.113.0/24
  mqtt-auth-proxy token create pump --count 500 > tokens.tsv
  mqtt-auth-proxy token create pump-8 --username pump-8 --password-file password`,
		RunE: func(c *cobra.Command, args []string) error { return n.run(c.Context(), args) },
	}
	f, o := c.Flags(), &n.options
	f.IntVar(&n.count, "count", 0, "make `N` tokens, for the devices NAME-1 to NAME-N, with leading zeros")
	f.StringVar(&n.fromFile, "from-file", "", "`FILE` with the names, one on each line; - reads stdin")
	f.BoolVar(&n.another, "another", false, "make an additional token for a device that has one; the old one stays valid")
	f.StringVar(&n.expires, "expires", "", "when the token expires: a `TIME` from now (720h), a date (2027-01-31T00:00:00Z), or never, which is the default")
	f.StringVar(&n.notBefore, "not-before", "", "when the token becomes valid: a `TIME` as for --expires")
	f.BoolVar(&o.Disabled, "disabled", false, "make a token that is not valid until token enable")
	f.StringVar(&o.Username, "username", "", "`USER` name that the device sends with a password, instead of a token")
	passwordFlag(c, &n.passwordFile)
	f.StringVar(&n.token, "token", "", "use this `TOKEN` instead of a new one; - reads it from stdin, so that no process list shows it")
	f.StringArrayVar(&o.ClientIDs, "client-id", nil, "accept the token only with this client `ID`; PREFIX* matches all that begin with PREFIX; may be repeated")
	f.StringArrayVar(&o.Usernames, "only-username", nil, "accept the token only with this user `NAME`, like --client-id; may be repeated")
	f.StringArrayVar(&o.Addrs, "cidr", nil, "accept the token only from this address or `NETWORK`; may be repeated")
	f.StringArrayVar(&o.Certificates, "certificate", nil, "accept the token only with this client `CERTIFICATE`: its SHA-256, cn:NAME or san:NAME; may be repeated")
	f.StringVar(&n.acl, "acl", "", "topic rules as `JSON`, or @FILE with them")
	f.StringArrayVar(&n.attrs, "attr", nil, "an attribute for templates and topic rules as `NAME=VALUE`; may be repeated")
	f.StringArrayVar(&n.limits, "limit", nil, "a limit of the device's sessions as `NAME=VALUE`, such as publish_rate=50; may be repeated")
	f.TextVar(&o.Role, "role", authz.RoleDevice, "`ROLE` of the token: device, or reader for a program that reads what all devices send")
	f.BoolVar(&o.Gateway, "gateway", false, "let the device speak for the devices behind it, with the bundled broker")
	f.StringVar(&o.Upstream.Username, "upstream-username", "", "user `NAME` for the broker, instead of the config's")
	f.StringVar(&n.upstreamPasswordFile, "upstream-password-file", "", "`FILE` with the password for the broker, which is stored in plain text")
	f.StringVar(&o.Upstream.ClientID, "upstream-client-id", "", "client `ID` for the broker, instead of the config's")
	f.StringVar(&o.Comment, "comment", "", "a `TEXT` for people")
	t.jsonFlag(c)
	return c
}

func (n *creation) run(ctx context.Context, args []string) error {
	names, single, err := n.names(args)
	if err != nil {
		return err
	}
	if err := n.readFlags(single); err != nil {
		return err
	}
	made := make([]tokenfile.Created, 0, len(names))
	err = n.update(ctx, true, n.scope(names), func(e *tokenfile.Edit) error {
		for _, name := range names {
			n.options.Name = name
			x, err := e.Create(n.options)
			if errors.Is(err, tokenfile.ErrExists) {
				return fmt.Errorf("%w; mqtt-auth-proxy token rotate replaces its token, and --another makes one more", err)
			}
			if err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
			made = append(made, x)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if single {
		return n.printCreated(made[0])
	}
	return n.printAllCreated(made)
}

// scope returns what the edit looks up: whether there are the names and the credentials already.
func (n *creation) scope(names []string) tokenfile.Scope {
	s := tokenfile.Scope{Names: names}
	if !n.options.Token.IsZero() {
		s.Tokens = append(s.Tokens, n.options.Token.Hash())
	}
	if n.options.Username != "" {
		s.Usernames = append(s.Usernames, n.options.Username)
	}
	return s
}

// names returns the devices. It reports whether there is one, given as the only argument.
func (n *creation) names(args []string) (names []string, single bool, err error) {
	switch {
	case n.fromFile != "" && (len(args) > 0 || n.count != 0):
		return nil, false, errors.New("give names, or --count with one name, or --from-file alone")
	case n.fromFile != "":
		names, err = namesFrom(n.fromFile)
		return names, false, err
	case len(args) == 0:
		return nil, false, errors.New("give at least one device name: mqtt-auth-proxy token create NAME, or --from-file")
	case n.count == 0:
		return args, len(args) == 1, nil
	case len(args) != 1:
		return nil, false, errors.New("--count needs one name, with which those of the devices begin")
	case n.count < 1 || n.count > maxCount:
		return nil, false, fmt.Errorf("--count is %d; it must be 1 to %d", n.count, maxCount)
	}
	width := len(fmt.Sprint(n.count))
	for i := range n.count {
		names = append(names, fmt.Sprintf("%s-%0*d", args[0], width, i+1))
	}
	return names, false, nil
}

// readFlags completes the options, which are the same for all devices.
func (n *creation) readFlags(single bool) (err error) {
	o, now := &n.options, time.Now()
	o.New = !n.another
	if !single && (n.token != "" || o.Username != "" || n.passwordFile != "") {
		return errors.New("--token, --username and --password-file are for one device; mqtt-auth-proxy token import takes those of many")
	}
	if o.Password, err = givenPassword(n.passwordFile); err != nil {
		return err
	}
	if o.Upstream.Password, err = givenPassword(n.upstreamPasswordFile); err != nil {
		return err
	}
	if o.Expires, err = parseTime("expires", n.expires, now); err != nil {
		return err
	}
	if o.NotBefore, err = parseTime("not-before", n.notBefore, now); err != nil {
		return err
	}
	if o.Token, err = givenToken(n.token); err != nil {
		return err
	}
	if o.Attrs, err = parseAttrs(n.attrs); err != nil {
		return err
	}
	if o.Limits, err = parseLimits(n.limits); err != nil {
		return err
	}
	o.ACL, err = givenRules(n.acl)
	return err
}

// givenRules returns the JSON of the --acl flag.
func givenRules(flag string) ([]byte, error) {
	text := []byte(flag)
	if path, ok := strings.CutPrefix(flag, "@"); ok {
		var err error
		if text, _, err = files.Read(path, maxPasswordFile); err != nil {
			return nil, fmt.Errorf("--acl: %w", err)
		}
	}
	if len(text) == 0 {
		return nil, nil
	}
	var raw json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("--acl is not JSON: %w", err)
	}
	return compact(raw), nil
}

// compact returns valid JSON on one line.
func compact(raw json.RawMessage) []byte {
	line, _ := json.Marshal(raw) // which is valid
	return line
}

// parseLimits reads the --limit flags.
func parseLimits(flags []string) (l authz.Limits, err error) {
	seen := map[string]bool{}
	for _, flag := range flags {
		name, value, ok := strings.Cut(flag, "=")
		switch {
		case !ok:
			return l, fmt.Errorf("--limit %q: want NAME=VALUE, such as publish_rate=50", flag)
		case seen[name]:
			return l, fmt.Errorf("--limit %s is given twice", name)
		}
		seen[name] = true
		if err := l.ParseLimit(name, value); err != nil {
			return l, fmt.Errorf("--limit %s: %w", flag, err)
		}
	}
	return l, nil
}

// namesFrom reads names from a file, or from stdin if it is -. Blank lines are skipped.
func namesFrom(file string) (names []string, err error) {
	in := io.Reader(os.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the names: %w", err)
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if name := strings.TrimSuffix(lines.Text(), "\r"); name != "" {
			names = append(names, name)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the names: %w", err)
	}
	if len(names) == 0 {
		return nil, errors.New("there is no name to read: write one on each line")
	}
	return names, nil
}

// givenToken returns the token of the --token flag, zero without one.
func givenToken(flag string) (authz.Token, error) {
	switch flag {
	case "":
		return authz.Token{}, nil
	case "-":
		line, err := readSecret(os.Stdin, '\n')
		if err != nil {
			return authz.Token{}, fmt.Errorf("read the token from stdin: %w", err)
		}
		return authz.NewToken(strings.TrimRight(line, "\r\n")), nil
	}
	return authz.NewToken(flag), nil
}

// parseTime reads the time in a flag: a time from now, a date, or never, for which it returns the
// zero time.
func parseTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" || s == "never" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		if d <= 0 {
			return time.Time{}, fmt.Errorf("--%s must lie in the future", flag)
		}
		return now.Add(d), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--%s %q: want a time from now such as 720h, a date such as 2027-01-31T00:00:00Z, or never", flag, s)
	}
	return at, nil
}
