package tokenimport

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
)

// hivemqFile is the credentials.xml of HiveMQ's File RBAC extension while it is being read.
type hivemqFile struct {
	xmlFile
	r     *reader
	plain bool // the passwords are not hashed
	users []hivemqUser
	roles map[string][]hivemqRule
	acls  map[string]json.RawMessage // by the ids of the roles, one on each line
}

// hivemqUser is a user; what its element lacks is nil.
type hivemqUser struct {
	line           int
	name, password *string
	roles          []string
}

// hivemqRule is a permission as a topic rule.
type hivemqRule struct {
	Permission string   `json:"permission"`
	Action     string   `json:"action"`
	Topics     []string `json:"topics"`
	QoS        []int    `json:"qos,omitempty"`
	Retain     *bool    `json:"retain,omitempty"`
}

// hivemq reads the users, and the permissions of their roles as topic rules.
func (r *reader) hivemq(hash string) error {
	if hash != "" && hash != "plain" {
		return fmt.Errorf("unknown hash %q: %s takes only plain, for a file whose password-type is PLAIN", hash, HiveMQ)
	}
	f := &hivemqFile{
		xmlFile: newXMLFile(r.in), r: r, plain: hash == "plain",
		roles: make(map[string][]hivemqRule), acls: make(map[string]json.RawMessage),
	}
	if err := f.document("file-rbac", elements{
		"users": func(int) error { return f.children(elements{"user": f.user}) },
		"roles": func(int) error { return f.children(elements{"role": f.role}) },
	}); err != nil {
		return err
	}
	for _, u := range f.users {
		if err := f.add(u); err != nil {
			if err := r.fault(u.line, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// document reads the file, whose only element is root. If the file has faults, it returns
// errFaults, because further errors that follow from them would only confuse.
func (f *hivemqFile) document(root string, known elements) error {
	found := false
	err := f.children(elements{root: func(int) error {
		if found {
			return errors.New("an element that is there twice")
		}
		found = true
		return f.children(known)
	}})
	switch {
	case errors.Is(err, io.EOF) && !found:
		_ = f.r.fault(1, fmt.Errorf("holds no element %s; the file wanted is the credentials.xml of the extension", root))
	case !errors.Is(err, io.EOF) && !errors.Is(err, errFaults):
		_ = f.r.fault(f.line(), err)
	}
	if f.r.faults > 0 {
		return errFaults
	}
	return nil
}

func (f *hivemqFile) user(line int) error {
	u := hivemqUser{line: line}
	err := f.children(elements{
		"name": f.leaf(&u.name), "password": f.leaf(&u.password),
		"roles": func(int) error {
			return f.children(elements{"id": func(int) error {
				id, err := f.text()
				u.roles = append(u.roles, id)
				return err
			}})
		},
	})
	f.users = append(f.users, u)
	return err
}

func (f *hivemqFile) role(line int) error {
	var id *string
	var rules []hivemqRule
	if err := f.children(elements{
		"id": f.leaf(&id),
		"permissions": func(int) error {
			return f.children(elements{"permission": func(line int) error {
				rule, err := f.permission(line)
				rules = append(rules, rule)
				return err
			}})
		},
	}); err != nil {
		return err
	}
	switch {
	case id == nil || *id == "":
		return f.r.fault(line, in("role", "has no id"))
	case f.roles[*id] != nil:
		return f.r.fault(line, in("role", "has the id of another"))
	case rules == nil:
		return f.r.fault(line, in("role", "has no permissions"))
	}
	f.roles[*id] = rules
	return nil
}

// permission reads a permission. It reports what is wrong with it.
func (f *hivemqFile) permission(line int) (rule hivemqRule, err error) {
	var topic, activity, qos, retain, shared, group *string
	if err := f.children(elements{
		"topic": f.leaf(&topic), "activity": f.leaf(&activity), "qos": f.leaf(&qos), "retain": f.leaf(&retain),
		"shared-subscription": f.leaf(&shared), "shared-group": f.leaf(&group),
	}); err != nil {
		return rule, err
	}
	rule.Permission = "allow"
	err = rule.set(topic, activity, qos, retain)
	if err == nil && rule.Action != "publish" && (or(shared, "ALL") != "ALL" || or(group, "#") != "#") {
		err = in("permission", "depends on whether a subscription is shared, which topic rules cannot say; change it in a copy of the file")
	}
	if err == nil {
		err = rule.check()
	}
	if err != nil {
		return rule, f.r.fault(line, err)
	}
	return rule, nil
}

func (rule *hivemqRule) set(topic, activity, qos, retain *string) (err error) {
	if rule.Topics, err = hivemqTopic(or(topic, "")); err != nil {
		return err
	}
	yes, no := true, false
	if rule.Action, err = one("activity", activity, map[string]string{"ALL": "all", "PUBLISH": "publish", "SUBSCRIBE": "subscribe"}); err != nil {
		return err
	}
	if rule.QoS, err = one("qos", qos, map[string][]int{"ALL": nil, "ZERO": {0}, "ONE": {1}, "TWO": {2}, "ZERO_ONE": {0, 1}, "ONE_TWO": {1, 2}, "ZERO_TWO": {0, 2}}); err != nil {
		return err
	}
	rule.Retain, err = one("retain", retain, map[string]*bool{"ALL": nil, "RETAINED": &yes, "NOT_RETAINED": &no})
	if rule.Action == "subscribe" {
		rule.Retain = nil // it has no meaning there
	}
	return err
}

// hivemqTopic returns a topic with the placeholders of topic rules.
func hivemqTopic(topic string) ([]string, error) {
	rest := strings.NewReplacer("${{clientid}}", "", "${{username}}", "").Replace(topic)
	switch {
	case topic == "":
		return nil, in("topic", "is missing")
	case strings.Contains(rest, "${") || strings.HasPrefix(topic, "eq "):
		return nil, in("topic", "means something else in topic rules; only ${{clientid}} and ${{username}} can be taken over")
	}
	return []string{strings.NewReplacer("${{clientid}}", "${client_id}", "${{username}}", "${username}").Replace(topic)}, nil
}

// one returns what a word of the file stands for, which is ALL if it is missing.
func one[T any](field string, word *string, known map[string]T) (T, error) {
	value, ok := known[or(word, "ALL")]
	if !ok {
		return value, in(field, "not one of the known words")
	}
	return value, nil
}

func or(text *string, missing string) string {
	if text == nil {
		return missing
	}
	return *text
}

// check returns what is wrong with the rule as a topic rule.
func (rule *hivemqRule) check() error {
	text, err := json.Marshal([]*hivemqRule{rule})
	if err == nil {
		_, err = authz.ParseACL(text, authz.ACLOptions{})
	}
	if err != nil {
		return in("permission", err.Error())
	}
	return nil
}

// add adds the entry of a user.
func (f *hivemqFile) add(u hivemqUser) error {
	switch {
	case or(u.name, "") == "":
		return in("name", "is missing")
	case or(u.password, "") == "":
		return in("password", "is missing")
	}
	c := credential{Username: *u.name}
	var err error
	if c.ACL, err = f.acl(u.roles); err != nil {
		return err
	}
	if f.plain {
		c.Password = *u.password
	} else if c.PasswordHash, err = hivemqHash(*u.password); err != nil {
		return in("password", err.Error())
	}
	f.r.addCredential(u.line, c)
	return nil
}

// acl returns the rules of the roles as JSON.
func (f *hivemqFile) acl(roles []string) (json.RawMessage, error) {
	key := strings.Join(roles, "\n")
	if acl := f.acls[key]; acl != nil {
		return acl, nil
	}
	var rules []hivemqRule
	for _, id := range roles {
		role := f.roles[id]
		if role == nil {
			return nil, in("roles", "names a role that the file does not have")
		}
		rules = append(rules, role...)
	}
	if rules == nil {
		return nil, in("roles", "is missing")
	}
	acl, err := json.Marshal(rules)
	f.acls[key] = acl
	return acl, err
}

// hivemqHash returns the text of a hash that the extension's generator has made, for package
// passwordhash: salt, iterations and PBKDF2 with SHA-512, with colons between them.
func hivemqHash(text string) (string, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return "", errors.New("not SALT:ITERATIONS:HASH as the extension's generator writes it; if the password-type of the extension is PLAIN, use the hash plain")
	}
	salt, errSalt := base64.StdEncoding.Strict().DecodeString(parts[0])
	digest, errDigest := base64.StdEncoding.Strict().DecodeString(parts[2])
	rounds, errRounds := strconv.Atoi(parts[1])
	if err := errors.Join(errSalt, errDigest, errRounds); err != nil || len(digest) != 64 {
		return "", errors.New("not SALT:ITERATIONS:HASH with a salt and 64 bytes of hash in base64")
	}
	return passwordhash.PBKDF2("sha512", rounds, string(salt), hex.EncodeToString(digest))
}
