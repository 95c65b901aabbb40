//! The constructs that the templates of Qwen2.5 and Qwen3 use, in a template of our own, and the forms of messages.

use serde_json::json;

use super::*;

/// Uses what the templates in the field use: loops with `loop.index0`, `namespace`, slices, string methods, `tojson`,
/// `is string`, `is defined`, whitespace control, `raise_exception`, an inline `if`.
const TEMPLATE: &str = r#"{%- if tools %}
    {{- '<s>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- 'Tools:' }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</s>\n" }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, asked=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.asked and message.role == "user" and message.content is string and not (message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.asked = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "odd" %}
        {{- raise_exception('role ' ~ message.role ~ ' is odd') }}
    {%- elif message.role == "skip" %}
        {%- continue %}
    {%- endif %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<s>assistant\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}
                {%- set call = call.function %}
            {%- endif %}
            {{- '\n<tool_call>\n{"name": "' + call.name + '", "arguments": ' }}
            {%- if call.arguments is string %}{{ call.arguments }}{% else %}{{ call.arguments | tojson }}{% endif %}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '</s>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<s>user' }}
        {%- endif %}
        {{- '\n<r>\n' + content + '\n</r>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '</s>\n' }}
        {%- endif %}
    {%- else %}
        {{- '<s>' + message.role + '\n' + content + eos_token + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<s>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"#;

fn template() -> ChatTemplate {
    let mut environment = environment().unwrap();
    environment.add_template_owned(DEFAULT, TEMPLATE).unwrap();
    let tokens = Map::from_iter([("eos_token".to_owned(), json!("</s>"))]);
    ChatTemplate { environment, text: TEMPLATE.to_owned(), tokens }
}

fn render(messages: &Value, tools: &Value, further: &Value) -> Result<String, String> {
    template().render(
        messages.as_array().unwrap(),
        tools.as_array().unwrap(),
        further.as_object().unwrap(),
    )
}

#[test]
fn a_conversation_with_tools() {
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Find <x> & \"y\""},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\":[2.0]}"}},
            {"id": "2", "type": "function", "function": {"name": "g", "arguments": {"q": "é"}}},
        ]},
        {"role": "tool", "tool_call_id": "1", "content": "one"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "t"}, {"type": "text", "text": "wo"}]},
    ]);
    let tools =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}}}]);
    let expected = r#"<s>system
Be brief.

Tools:
{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}}}
</s>
<s>system
Be brief.</s>
<s>user
Find <x> & "y"</s>
<s>assistant

<tool_call>
{"name": "f", "arguments": {"b": 1, "a": [2.0]}}
</tool_call>
<tool_call>
{"name": "g", "arguments": {"q": "é"}}
</tool_call></s>
<s>user
<r>
one
</r>
<r>
two
</r></s>
<s>assistant
"#;
    assert_eq!(render(&messages, &tools, &json!({})).unwrap(), expected);
}

#[test]
fn thoughts_are_cut_and_kept_as_the_template_says() {
    let messages = json!([
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
        {"role": "skip"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d", "reasoning_content": "so"},
    ]);
    let text = render(&messages, &json!([]), &json!({"enable_thinking": false})).unwrap();
    assert_eq!(
        text,
        "<s>user\na</s>\n<s>assistant\nb</s>\n<s>user\nc</s>\n<s>assistant\n<think>\nso\n</think>\n\nd</s>\n\
         <s>assistant\n<think>\n\n</think>\n\n"
    );
}

#[test]
fn what_the_template_refuses_is_said_in_its_words() {
    let error =
        render(&json!([{"role": "odd", "content": ""}]), &json!([]), &json!({})).unwrap_err();
    assert!(error.contains("role odd is odd"), "{error}");
}
