//! People who do not exist.

use crate::inputs::NewUser;

const FIRST: [&str; 8] = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Ken"];
const LAST: [&str; 9] = ["Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Perlman", "Thompson", "Allen"];
const DEPARTMENTS: [&str; 3] = ["Engineering", "Sales", "People"];

impl NewUser {
    /// Person number `number` of those who do not exist. Names repeat after 72 people; addresses do not.
    pub fn invented(number: usize, domain: &str) -> Self {
        let mut new = Self::named(FIRST[number % FIRST.len()], LAST[number % LAST.len()], domain);
        if number >= FIRST.len() * LAST.len() {
            new.email = format!("{number}.{}", new.email);
        }
        new.department = DEPARTMENTS[number % DEPARTMENTS.len()].to_owned();
        new
    }
}
