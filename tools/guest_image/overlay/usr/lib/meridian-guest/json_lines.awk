# Flattens one JSON document into lines "path<TAB>value", the path's parts joined by dots (array positions
# count from 0). A string that holds line breaks becomes several lines of the same path. Enough of RFC 8259
# to read any valid document; an invalid one ends the program with status 1 and a word on stderr.
# Text is matched token by token with regular expressions: character by character is too slow in a small guest.
BEGIN {
	while ((getline line) > 0) text = text line "\n"
	parse_value("")
	skip()
	if (text != "") die("text after the document")
}

function die(why) {
	print "json: " why > "/dev/stderr"
	exit 1
}

function skip() {
	if (match(text, /^[ \t\r\n]+/)) text = substr(text, RLENGTH + 1)
}

function next_is(mark) {
	skip()
	if (substr(text, 1, 1) != mark) return 0
	text = substr(text, 2)
	return 1
}

function join(path, part) {
	return path == "" ? part : path "." part
}

function parse_value(path,    first, count, name) {
	skip()
	first = substr(text, 1, 1)
	if (first == "{") {
		text = substr(text, 2)
		if (next_is("}")) return
		do {
			skip()
			name = parse_string()
			if (!next_is(":")) die("a colon is missing after " name)
			parse_value(join(path, name))
		} while (next_is(","))
		if (!next_is("}")) die("an object is not closed at " path)
	} else if (first == "[") {
		text = substr(text, 2)
		if (next_is("]")) return
		count = 0
		do {
			parse_value(join(path, count))
			count++
		} while (next_is(","))
		if (!next_is("]")) die("an array is not closed at " path)
	} else if (first == "\"") {
		emit(path, parse_string())
	} else if (match(text, /^[-+.0-9a-zA-Z]+/)) {
		name = substr(text, 1, RLENGTH)
		text = substr(text, RLENGTH + 1)
		emit(path, name)
	} else {
		die("no value at " path)
	}
}

function emit(path, value,    parts, count, i) {
	count = split(value, parts, "\n")
	if (count == 0) print path "\t"
	for (i = 1; i <= count; i++) if (parts[i] != "" || count == 1) print path "\t" parts[i]
}

function parse_string(    raw, out, at, code, low) {
	if (!match(text, /^"([^"\\]|\\.)*"/)) die("a string does not end")
	raw = substr(text, 2, RLENGTH - 2)
	text = substr(text, RLENGTH + 1)
	out = ""
	while ((at = index(raw, "\\")) > 0) {
		out = out substr(raw, 1, at - 1)
		code = substr(raw, at + 1, 1)
		raw = substr(raw, at + 2)
		if (code == "n") out = out "\n"
		else if (code == "t") out = out "\t"
		else if (code == "r") out = out "\r"
		else if (code == "b" || code == "f") out = out " "
		else if (code == "u") {
			code = hex(substr(raw, 1, 4))
			raw = substr(raw, 5)
			if (code >= 55296 && code < 56320 && substr(raw, 1, 2) == "\\u") {
				low = hex(substr(raw, 3, 4))
				raw = substr(raw, 7)
				code = 65536 + (code - 55296) * 1024 + (low - 56320)
			}
			out = out utf8(code)
		} else out = out code
	}
	return out raw
}

function hex(digits,    i, value) {
	value = 0
	for (i = 1; i <= 4; i++) value = value * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
	return value
}

function utf8(code) {
	if (code < 128) return sprintf("%c", code)
	if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
	if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
	return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
