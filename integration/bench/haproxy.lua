-- Asks the token service about the token of a CONNECT.
core.register_action("check", {"tcp-req"}, function(txn)
	local question = string.format('{"v":1,"token":"%s","username":"","clientid":"","reason":"connect"}', txn:get_var("txn.token"))
	local answer = core.httpclient():post{
		url = "http://{{.Service}}/mqtt",
		headers = {["content-type"] = {"application/json"}},
		body = question,
	}
	local allowed = answer.status == 200 and string.find(answer.body, '"result":"allow"', 1, true)
	txn:set_var("txn.allowed", allowed ~= nil and allowed ~= false)
end, 0)
