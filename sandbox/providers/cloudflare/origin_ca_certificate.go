package cloudflare

import (
	"strings"

	"overlord/sandbox/providers/kit"
)

var originCaCertificate = collection{
	token: "cloudflare:index/originCaCertificate:OriginCaCertificate",
	path:  "certificates",
	// The API has no way to change a certificate. Deleting one revokes it.
	replaced: true,
	fields: []kit.Field{
		{Name: "csr", Type: kit.String, Required: true, Same: sameText},
		{Name: "hostnames", Type: kit.Set, Required: true, Elem: kit.Items(kit.String)},
		{Name: "requestType", Type: kit.String, Required: true,
			Validate: kit.OneOf("origin-rsa", "origin-ecc", "keyless-certificate")},
		{Name: "requestedValidity", Type: kit.Number, Default: 5475.0},
		{Name: "certificate", Type: kit.String, Output: true},
		{Name: "expiresOn", Type: kit.String, Output: true},
	},
}.resource()

func sameText(old, wanted any) bool {
	a, _ := old.(string)
	b, _ := wanted.(string)
	return strings.TrimSpace(a) == strings.TrimSpace(b)
}
