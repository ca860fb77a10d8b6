package tokenimport

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// thingsBoard reads a table of devices with their credentials.
func (r *reader) thingsBoard() error {
	var names []string
	return r.eachRow(func(header []string) error {
		for _, name := range header {
			names = append(names, thingsBoardName(name))
		}
		return checkThingsBoard(names)
	}, func(line int, cells []string) error {
		row := make(map[string]string, len(cells))
		for i, cell := range cells {
			row[names[i]] = cell
		}
		c, err := thingsBoardDevice(row)
		if err == nil {
			c.Gateway, err = isGateway(row)
		}
		if err == nil {
			r.addCredential(line, c)
		}
		return err
	})
}

// thingsBoardName returns the name of a column without what does not matter in it.
func thingsBoardName(name string) string {
	return strings.NewReplacer(" ", "", "_", "", ".", "").Replace(strings.ToLower(name))
}

// checkThingsBoard checks the names of the columns.
func checkThingsBoard(names []string) error {
	known := []string{"name", "accesstoken", "x509", "mqttclientid", "mqttusername", "mqttpassword", "credentialstype", "credentialsid", "credentialsvalue", "isgateway"}
	credentials := 0
	for i, name := range names {
		if slices.Contains(known, name) && slices.Contains(names[:i], name) {
			return fmt.Errorf("column %d has the name of another", i+1)
		}
		if slices.Contains(known[1:], name) && name != "isgateway" {
			credentials++
		}
	}
	if !slices.Contains(names, "name") || credentials == 0 {
		return errors.New("there must be a column name, and one of access token, X.509, MQTT user name or credentials type; names are separated by commas")
	}
	return nil
}

// thingsBoardDevice returns the credentials of a row.
func thingsBoardDevice(row map[string]string) (credential, error) {
	if row["name"] == "" {
		return credential{}, in("name", "is missing")
	}
	if kind := row["credentialstype"]; kind != "" {
		return thingsBoardDump(row["name"], kind, row["credentialsid"], row["credentialsvalue"])
	}
	basic := credential{ClientID: row["mqttclientid"], Username: row["mqttusername"], Password: row["mqttpassword"]}
	kinds := 0
	for _, given := range []bool{row["accesstoken"] != "", row["x509"] != "", basic.ClientID+basic.Username+basic.Password != ""} {
		if given {
			kinds++
		}
	}
	switch {
	case kinds == 0:
		return credential{}, errors.New("the device has no credentials; take the row out, or make a token for it")
	case kinds > 1:
		return credential{}, errors.New("the device has credentials of several kinds; leave one of them")
	case row["accesstoken"] != "":
		return credential{Subject: row["name"], Token: row["accesstoken"]}, nil
	case row["x509"] != "":
		return certificateOf(row["name"], row["x509"])
	}
	return basicOf(row["name"], basic)
}

// isGateway reports whether a row is that of a gateway. ThingsBoard's bulk import calls the column
// IS GATEWAY.
func isGateway(row map[string]string) (bool, error) {
	switch strings.ToLower(row["isgateway"]) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, in("is_gateway", "want true or false")
}

// thingsBoardDump returns the credentials of a row of the table device_credentials.
func thingsBoardDump(name, kind, id, value string) (credential, error) {
	switch kind {
	case "ACCESS_TOKEN":
		if id == "" {
			return credential{}, in("credentials_id", "is missing; it has the access token")
		}
		return credential{Subject: name, Token: id}, nil
	case "X509_CERTIFICATE":
		return certificateOf(name, value)
	case "MQTT_BASIC":
		var c credential
		err := errors.New("no object")
		if value != "" {
			err = strictjson.EachMember([]byte(value), func(key, raw []byte) error {
				text, err := strictjson.Text(raw)
				if string(raw) == "null" {
					text, err = nil, nil
				}
				switch string(key) {
				case "clientId":
					c.ClientID = string(text)
				case "userName":
					c.Username = string(text)
				case "password":
					c.Password = string(text)
				}
				return err
			})
		}
		if err != nil {
			return c, in("credentials_value", "is not the object with clientId, userName and password that MQTT_BASIC has")
		}
		return basicOf(name, c)
	}
	return credential{}, in("credentials_type", "want ACCESS_TOKEN, MQTT_BASIC or X509_CERTIFICATE; others are not of MQTT")
}

// basicOf returns the credentials of a device with a client id, a user name and a password, of
// which some may be missing.
func basicOf(name string, c credential) (credential, error) {
	c.Subject = name
	switch {
	case strings.Contains(c.ClientID, "*"):
		return c, errors.New("the client id contains *, which would stand for any text here; give the device a token")
	case c.Username == "" && c.Password == "":
		return c, errors.New("the device has a client id alone, which is no secret; give it a token")
	case c.Username == "":
		return c, errors.New("the device has a password and no user name, by which it could be found; give it a token")
	case c.Password == "":
		c.Token, c.Username = c.Username, ""
	}
	return c, nil
}

// certificateOf returns the token that stands for a client certificate, in PEM, with or without
// its first and last line, and with or without line ends.
func certificateOf(name, pem string) (credential, error) {
	text := strings.NewReplacer("-----BEGIN CERTIFICATE-----", "", "-----END CERTIFICATE-----", "").Replace(pem)
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err == nil {
		_, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return credential{}, errors.New("the certificate of the device is missing, or not a single one in PEM")
	}
	return credential{Subject: name, Token: fmt.Sprintf("certificate:%x", sha256.Sum256(der))}, nil
}
