-- People may ask to join a circle that is for whoever its moderators let in.

alter table circles drop constraint circles_join_policy_check;
alter table circles add constraint circles_join_policy_check check (join_policy in ('open', 'on_request', 'invite_only')) not valid;
alter table circles validate constraint circles_join_policy_check;
