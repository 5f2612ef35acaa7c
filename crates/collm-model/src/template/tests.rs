use std::time::{Duration, UNIX_EPOCH};

use super::*;

const CHATML: &str = "{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
";

const GEMMA: &str = "{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = '' -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else '') }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}";

const LLAMA3: &str = "{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now('%d %b %Y') %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'].strip() %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{{- 'Today Date: ' + date_string + '\\n\\n' }}
{{- system_message }}
{{- '<|eot_id|>' }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'].strip() + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, "<s>".to_owned(), "</s>".to_owned()).unwrap()
}

fn conversation() -> Vec<Message> {
    vec![
        Message::new("system", " Be brief. "),
        Message::new("user", "Is <b> & 'x' fine?"),
        Message::new("assistant", "Yes."),
        Message::new("user", "Why? "),
    ]
}

fn check(source: &str, messages: &[Message], expected: &str) {
    let day = UNIX_EPOCH + Duration::from_secs(1_735_603_200);
    assert_eq!(template(source).render_at(messages, true, day).as_deref(), Ok(expected));
}

#[test]
fn chatml_as_qwen_writes_it() {
    check(
        CHATML,
        &conversation(),
        "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nIs <b> & 'x' fine?<|im_end|>\n\
         <|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nWhy? <|im_end|>\n<|im_start|>assistant\n",
    );
    check(
        CHATML,
        &conversation()[1..2],
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n\
         <|im_start|>user\nIs <b> & 'x' fine?<|im_end|>\n<|im_start|>assistant\n",
    );
}

#[test]
fn turns_as_gemma_writes_them() {
    check(
        GEMMA,
        &conversation(),
        "<s><start_of_turn>user\n Be brief. \n\nIs <b> & 'x' fine?<end_of_turn>\n\
         <start_of_turn>model\nYes.<end_of_turn>\n<start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
    );
}

#[test]
fn headers_as_llama3_writes_them() {
    check(
        LLAMA3,
        &conversation()[..2],
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 31 Dec 2024\n\nBe brief.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nIs <b> & 'x' fine?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n",
    );
}

#[test]
fn the_generation_prompt_can_be_left_out() {
    let text = template(CHATML).render_at(&conversation(), false, UNIX_EPOCH).unwrap();
    assert!(text.ends_with("Why? <|im_end|>\n"), "{text}");
}

#[test]
fn blocks_leave_no_white_space() {
    check(
        "{% for m in messages %}\n    {% if true %}\n{{ m.role }}\n    {% endif %}\n{% endfor %}",
        &conversation()[..1],
        "system\n",
    );
}

#[test]
fn a_template_can_refuse_a_conversation() {
    let refused = template(GEMMA).render(&conversation()[2..]);
    let expected = "Conversation roles must alternate user/assistant/user/assistant/...".to_owned();
    assert_eq!(refused, Err(TemplateError::Refused(expected)));
}

#[test]
fn json_is_written_as_python_writes_it() {
    check(
        "{{ messages[0] | tojson }} {{ ['<', 1.5, none, 'é'] | tojson }}",
        &[Message::new("user", "\"a\" & 'b'\n")],
        r#"{"role": "user", "content": "\"a\" & 'b'\n"} ["<", 1.5, null, "é"]"#,
    );
    check("{{ {'a': [1, 2]} | tojson(indent=2) }}", &[], "{\n  \"a\": [\n    1,\n    2\n  ]\n}");
}

#[test]
fn broken_templates_are_named() {
    for source in ["{% if %}", "{{ x", "{% unknown %}"] {
        let error = ChatTemplate::new(source, String::new(), String::new()).unwrap_err();
        assert!(matches!(error, TemplateError::Syntax(_)), "{error}");
    }
    let long = "x".repeat(SOURCE_BYTES_MAX + 1);
    assert!(matches!(ChatTemplate::new(&long, String::new(), String::new()), Err(TemplateError::TooLong(_))));
    assert!(matches!(template("{{ messages.nothing.at_all }}").render(&[]), Err(TemplateError::Failed(_))));
}

#[test]
fn hostile_templates_come_to_an_end() {
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        "{{ 'x' * 1000000000000 }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
    ] {
        let error = template(source).render(&[]).unwrap_err();
        assert!(matches!(error, TemplateError::OutOfFuel), "{source}: {error}");
    }
    let error = template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").render(&[]).unwrap_err();
    assert!(matches!(error, TemplateError::Failed(_)), "{error}");
    let nested = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(ChatTemplate::new(&format!("{{{{ {nested} }}}}"), String::new(), String::new()).is_err());
}
