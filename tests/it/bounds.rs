//! Every statement states how many rows it touches at most, and every script how many keys and bytes. They keep to that on
//! the largest data that limits and caps allow, whichever way Postgres plans them.

mod scripts;
mod statements;
