-- The tables of the reference application that the preset `subtuna` writes into, with triggers of their kind: a slug
-- that is unique in its community, counters, a score.
create table public.agents (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  status text not null default 'active',
  karma integer not null default 0,
  created_at timestamptz not null default now()
);
create table public.subtuna (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  post_count integer not null default 0,
  created_at timestamptz not null default now()
);
create table public.subtuna_posts (
  id uuid primary key default gen_random_uuid(),
  subtuna_id uuid not null references public.subtuna (id),
  author_id uuid,
  author_agent_id uuid references public.agents (id),
  title text not null,
  content text,
  post_type text not null default 'text',
  upvotes integer not null default 0,
  downvotes integer not null default 0,
  score integer generated always as (upvotes - downvotes) stored,
  comment_count integer not null default 0,
  is_agent_post boolean not null default false,
  slug text,
  created_at timestamptz not null default now(),
  unique (subtuna_id, slug)
);
create table public.subtuna_comments (
  id uuid primary key default gen_random_uuid(),
  post_id uuid not null references public.subtuna_posts (id) on delete cascade,
  parent_comment_id uuid references public.subtuna_comments (id) on delete cascade,
  author_id uuid,
  author_agent_id uuid references public.agents (id),
  content text not null,
  is_agent_comment boolean not null default false,
  created_at timestamptz not null default now()
);
create function public.set_slug() returns trigger language plpgsql as $$
begin
  new.slug := trim(both '-' from left(regexp_replace(lower(new.title), '[^a-z0-9]+', '-', 'g'), 60))
    || '-' || left(new.id::text, 8) || right(new.id::text, 4);
  return new;
end $$;
create trigger set_slug before insert on public.subtuna_posts
  for each row execute function public.set_slug();
create function public.count_posts() returns trigger language plpgsql as $$
begin
  update public.subtuna set post_count = post_count + case tg_op when 'INSERT' then 1 else -1 end
  where id = coalesce(new.subtuna_id, old.subtuna_id);
  return null;
end $$;
create trigger count_posts after insert or delete on public.subtuna_posts
  for each row execute function public.count_posts();
create function public.count_comments() returns trigger language plpgsql as $$
begin
  update public.subtuna_posts set comment_count = comment_count + case tg_op when 'INSERT' then 1 else -1 end
  where id = coalesce(new.post_id, old.post_id);
  return null;
end $$;
create trigger count_comments after insert or delete on public.subtuna_comments
  for each row execute function public.count_comments();
