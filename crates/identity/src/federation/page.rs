//! The page that takes a token to the dashboard: a form that posts itself, as upstream's does.

/// The page, and what may run and be sent by it (`Content-Security-Policy`).
pub(crate) struct Page {
    pub html: String,
    pub policy: String,
}

/// A page that posts `token` to `origin`, which was checked before.
pub(crate) fn handing_over(origin: &str, token: &str) -> Page {
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let target = match reqwest::Url::parse(origin) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => "'none'".to_owned(),
    };
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Logging in</title>\
         </head>\n<body>\n<form id=\"sso\" name=\"sso\" action=\"{}\" method=\"post\">\n\
         Please wait...\n<input type=\"hidden\" name=\"token\" id=\"token\" value=\"{}\">\n\
         <noscript><input type=\"submit\" name=\"submit_no_javascript\" \
         id=\"submit_no_javascript\" value=\"Continue\"></noscript>\n</form>\n\
         <script nonce=\"{nonce}\">document.getElementById('sso').submit();</script>\n\
         </body>\n</html>\n",
        escape(origin),
        escape(token)
    );
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; form-action {target}; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    Page { html, policy }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_posts_to_the_dashboard_and_nowhere_else() {
        let page = handing_over("https://console.example/auth/websso/?a=1&b=\"<x>", "to'ken");
        assert!(
            page.html.contains("action=\"https://console.example/auth/websso/?a=1&amp;b=&quot;")
        );
        assert!(page.html.contains("value=\"to&#39;ken\""));
        assert!(page.policy.contains("form-action https://console.example;"), "{}", page.policy);
        assert!(!page.html.contains("<x>"));
    }
}
